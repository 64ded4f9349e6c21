package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// statuses is the contract of docs/errors.md.
var statuses = map[api.Kind]int{
	api.KindInvalid: 400, api.KindUnauthenticated: 401, api.KindNonce: 401, api.KindDenied: 403, api.KindMFA: 403, api.KindStepUp: 403,
	api.KindRevoked: 403, api.KindPending: 400, api.KindSlowDown: 400, api.KindExpired: 400, api.KindNotFound: 404, api.KindMethod: 405, api.KindConflict: 409,
	api.KindRateLimited: 429, api.KindUpstream: 502, api.KindUnreachable: 504, api.KindUnavailable: 503, api.KindInternal: 500,
}

// declaredKinds reads the constants of type Kind from the source: one that is added must be
// thought through here and in docs/errors.md.
func declaredKinds(t *testing.T) map[api.Kind]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[api.Kind]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Kind" {
			for _, v := range spec.Values {
				text, err := strconv.Unquote(v.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				kinds[api.Kind(text)] = true
			}
		}
		return true
	})
	return kinds
}

func TestStatusOfEveryKind(t *testing.T) {
	declared := declaredKinds(t)
	if len(declared) != len(statuses) {
		t.Errorf("%d kinds are declared, %d are expected", len(declared), len(statuses))
	}
	for kind, want := range statuses {
		if !declared[kind] {
			t.Errorf("%s is not declared", kind)
		}
		if got := kind.Status(); got != want {
			t.Errorf("%s answers %d, want %d", kind, got, want)
		}
	}
	for _, unknown := range []api.Kind{"", "teapot", "Denied"} {
		if got := unknown.Status(); got != 500 {
			t.Errorf("unknown kind %q answers %d, want 500", unknown, got)
		}
	}
}

// TestDocumented: docs/errors.md names every kind with its status.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind, status := range statuses {
		if row := fmt.Sprintf("| `%s` | %d |", kind, status); !strings.Contains(string(doc), row) {
			t.Errorf("docs/errors.md has no row that begins %q", row)
		}
	}
}

func TestProblemOnTheWire(t *testing.T) {
	p := api.Errorf(api.KindStepUp, "older than %d minutes", 5).WithHint("run: %s", "sega login").WithCause(errors.New("canary-cause"))
	p.PolicyIDs, p.RequestID, p.RetrySecs = []string{"p1"}, "req_1", 3
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"type": "urn:sega:error:step_up_required", "title": "step up required", "status": 403.0, "kind": "step_up_required",
		"detail": "older than 5 minutes", "hint": "run: sega login", "policy_ids": []any{"p1"}, "request_id": "req_1", "retry_after": 3.0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	raw, _ = json.Marshal(api.Errorf(api.KindDenied, "no"))
	if want := `{"type":"urn:sega:error:denied","title":"denied","status":403,"kind":"denied","detail":"no"}`; string(raw) != want {
		t.Errorf("got  %s\nwant %s", raw, want)
	}
}

func TestAsProblem(t *testing.T) {
	cause := errors.New("canary-cause")
	denied := api.Errorf(api.KindDenied, "no")
	for name, c := range map[string]struct {
		err  error
		kind api.Kind
		text string
	}{
		"a problem":         {denied, api.KindDenied, "no"},
		"a wrapped problem": {fmt.Errorf("op: %w", denied), api.KindDenied, "no"},
		"a joined problem":  {errors.Join(cause, denied), api.KindDenied, "no"},
		"anything else":     {cause, api.KindInternal, "internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			p := api.AsProblem(c.err)
			if p.Kind != c.kind || p.Error() != c.text {
				t.Errorf("got %s, %q", p.Kind, p.Error())
			}
			if got := api.IsKind(c.err, c.kind); got != (c.kind != api.KindInternal) {
				t.Errorf("IsKind is %v", got)
			}
		})
	}
	if !errors.Is(api.AsProblem(cause), cause) {
		t.Error("the cause is lost to our own log")
	}
	if api.IsKind(nil, api.KindInternal) {
		t.Error("no error is of no kind")
	}
}
