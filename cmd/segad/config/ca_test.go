package config

import (
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// TestKeysOfACA: one place or a list of them, and nothing else; they come out as they went in.
func TestKeysOfACA(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want Keys
	}{
		"one":        {"access: ca/access\n", Keys{"ca/access"}},
		"a URI":      {"access: pkcs11:token=sega;object=access?pin-source=hsm.pin\n", Keys{"pkcs11:token=sega;object=access?pin-source=hsm.pin"}},
		"two":        {"access: [ca/access, 'awskms:key-id=1']\n", Keys{"ca/access", "awskms:key-id=1"}},
		"empty":      {"access: ''\n", nil},
		"empty item": {"access: [ca/access, '']\n", nil},
		"a map":      {"access: {path: canary}\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got CA
			err := Parse([]byte(tt.text), &got)
			if (err == nil) != (tt.want != nil) {
				t.Fatalf("got %v, %v", got.Access, err)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(tt.want, got.Access); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			out, err := yaml.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			var again CA
			if err := Parse(out, &again); err != nil || cmp.Diff(got.Access, again.Access) != "" {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestOperatorsSocket(t *testing.T) {
	for name, tt := range map[string]struct{ configured, want string }{
		"default": {"", "/etc/sega/broker.yaml.sock"}, "relative": {"ca.sock", "/etc/sega/ca.sock"}, "absolute": {"/run/sega/ca.sock", "/run/sega/ca.sock"},
	} {
		if got := (Broker{Operators: tt.configured}).OperatorsSocket("/etc/sega/broker.yaml"); got != tt.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
