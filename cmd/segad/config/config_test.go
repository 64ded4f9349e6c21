package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

const good = `
origin: https://sega.corp.example
listen: 127.0.0.1:8443
idp:
  issuer: https://corp.okta.com
  redirect_ports: [8250, 8251]
roles:
  - name: dev-admin
    max_duration: 1h30m
session: 45m
`

func TestParse(t *testing.T) {
	var got Broker
	if err := Parse([]byte(good), &got); err != nil {
		t.Fatal(err)
	}
	want := Broker{Origin: "https://sega.corp.example", Listen: "127.0.0.1:8443", IDP: IDP{Issuer: "https://corp.okta.com", RedirectPorts: []int{8250, 8251}},
		Roles: []Role{{Name: "dev-admin", MaxDuration: 90 * time.Minute}}, Session: 45 * time.Minute}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseNamesTheLine(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"unknown key":        {"origin: x\nlisten: y\nlisten_on: hunter2\n", `line 3: unknown key "listen_on"`},
		"unknown nested key": {"idp:\n  issuer: x\n  secret: hunter2\n", `line 3: unknown key "secret"`},
		"duplicate key":      {"origin: x\norigin: y\n", "line 2"},
		"no unit":            {"session: 45\n", "line 1"},
		"not YAML":           {"origin: [\n", "line"},
		"wrong type":         {"roles: hunter2\n", "line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			var b Broker
			err := Parse([]byte(c.in), &b)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes a value: %v", err)
			}
		})
	}
}

func TestSecretRefusesWhatOthersMayRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("hunter2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Secret(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("got %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Secret(path); err != nil || string(s.Reveal()) != "hunter2" {
		t.Errorf("got %q, %v", s.Reveal(), err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("a: &x [*x]\n"))
	f.Add([]byte("- - - ? :\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b Broker
		if Parse(data, &b) != nil {
			return
		}
		out, err := yaml.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		var again Broker
		if err := Parse(out, &again); err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, out)
		}
	})
}
