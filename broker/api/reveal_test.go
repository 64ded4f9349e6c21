package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/keychain/secret"
)

const canary = "canary-7f3a9c"

func hidden(n string) secret.Secret { return secret.FromString(canary + n) }

// revealers is one of each wire type with secrets, and the fields that hold them on the wire.
var revealers = []struct {
	value   api.Revealer
	secrets map[string]string
}{
	{api.LoginRequest{IDToken: hidden("1"), AccessToken: hidden("2"), Random: "r", Method: "browser", Client: "c"}, map[string]string{"id_token": "1", "access_token": "2"}},
	{api.RenewRequest{IDToken: hidden("1"), AccessToken: hidden("2")}, map[string]string{"id_token": "1", "access_token": "2"}},
	{api.Session{Token: hidden("1"), LoginID: "ses_1", Groups: []string{"g"}, Expires: time.Unix(1e9, 0).UTC()}, map[string]string{"token": "1"}},
	{api.Credentials{AccessKeyID: "ASIA", SecretAccessKey: hidden("1"), SessionToken: hidden("2"), Notices: []string{}}, map[string]string{"secret_access_key": "1", "session_token": "2"}},
	{api.Console{URL: hidden("1"), LogoutURL: "https://l", Role: "r", Notices: []string{}}, map[string]string{"url": "1"}},
	{api.EnrollRequest{Token: hidden("1"), Name: "n", Kind: "bastion"}, map[string]string{"token": "1"}},
	{api.MachineSession{Token: hidden("1"), SessionID: "ses_1"}, map[string]string{"token": "1"}},
	{api.HostToken{Token: hidden("1"), Name: "n", Expires: time.Unix(1e9, 0).UTC()}, map[string]string{"token": "1"}},
	{api.HostEnrollRequest{Name: "n", Token: hidden("1"), Document: []byte("d"), HostKeys: []string{"k"}}, map[string]string{"token": "1"}},
}

func object(t *testing.T, v any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestWireAloneReveals: Wire is the whole value with the secrets in their own fields, and what comes
// back from the wire is what went in.
func TestWireAloneReveals(t *testing.T) {
	for _, c := range revealers {
		t.Run(fmt.Sprintf("%T", c.value), func(t *testing.T) {
			want := object(t, c.value)
			for field, n := range c.secrets {
				if want[field] != secret.Redacted {
					t.Errorf("%s marshals as %v", field, want[field])
				}
				want[field] = canary + n
			}
			if diff := cmp.Diff(want, object(t, c.value.Wire())); diff != "" {
				t.Errorf("the wire form differs from the value in more than its secrets: -want +got\n%s", diff)
			}
			raw, _ := json.Marshal(c.value.Wire())
			back := reflect.New(reflect.TypeOf(c.value))
			if err := json.Unmarshal(raw, back.Interface()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.value, back.Elem().Interface().(api.Revealer)); diff != "" {
				t.Errorf("-sent +received\n%s", diff)
			}
		})
	}
}

func TestNothingElseReveals(t *testing.T) {
	for _, c := range revealers {
		t.Run(fmt.Sprintf("%T", c.value), func(t *testing.T) {
			pointer := reflect.New(reflect.TypeOf(c.value))
			pointer.Elem().Set(reflect.ValueOf(c.value))
			for how, v := range map[string]any{"value": c.value, "pointer": pointer.Interface(), "field": struct{ V any }{c.value},
				"unexported field": struct{ v any }{c.value}, "slice": []any{c.value}, "map": map[string]any{"x": c.value}} {
				var out bytes.Buffer
				for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%o", "%U"} {
					fmt.Fprintf(&out, verb+"\n", v)
				}
				raw, _ := json.Marshal(v)
				out.Write(raw)
				slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
				slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
				for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprint([]byte(canary))[1:20]} {
					if strings.Contains(out.String(), form) {
						t.Errorf("%s leaks:\n%s", how, out.String())
					}
				}
			}
		})
	}
}

// TestEverySecretHasAWire: a struct of this package with a secret.Secret field that forgets Wire
// would go redacted onto the wire; one that is not in the table above is not tested.
func TestEverySecretHasAWire(t *testing.T) {
	var tested []string
	for _, c := range revealers {
		tested = append(tested, reflect.TypeOf(c.value).Name())
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, structsWithSecrets(file)...)
	}
	slices.Sort(found)
	slices.Sort(tested)
	if diff := cmp.Diff(tested, found); diff != "" {
		t.Errorf("-tested +has secrets\n%s", diff)
	}
}

func structsWithSecrets(file *ast.File) (names []string) {
	for _, decl := range file.Decls {
		types, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range types.Specs {
			v, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			secrets := false
			ast.Inspect(v.Type, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && fmt.Sprint(s.X, s.Sel) == "secret Secret" {
					secrets = true
				}
				return true
			})
			if secrets {
				names = append(names, v.Name.Name)
			}
		}
	}
	return names
}
