package audit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzParsePlain: the fast way takes nothing that the general way refuses, and reads the same.
func FuzzParsePlain(f *testing.F) {
	f.Add([]byte(vectorBody))
	for _, change := range [][2]string{{"OPS-1", "é\u2028"}, {"OPS-1", "a&b"}, {"OPS-1", `\u0026`}, {"OPS-1", "\xff"}, {`"v":1`, `"v":10`}, {".000000089Z", ",000000089Z"}, {"Z\"", "+00:00\""}, {`}`, `} `}, {`[`, `["a","b",`}, {`[`, `[,`}} {
		f.Add([]byte(strings.Replace(vectorBody, change[0], change[1], 1)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fast, ok := parsePlain(body)
		if !ok {
			return
		}
		slow, err := parseAny(body)
		if err != nil {
			t.Fatalf("taken is %q, but %v", body, err)
		}
		if diff := cmp.Diff(slow, fast); diff != "" {
			t.Error(diff)
		}
	})
}

// TestParsePlainTakesTheUsual: the fast way is the one that is gone.
func TestParsePlainTakesTheUsual(t *testing.T) {
	for _, row := range testLog(t, 3) {
		if _, ok := parsePlain(row.Body); !ok {
			t.Errorf("left to the general way: %s", row.Body)
		}
	}
	e := New(mustParse([]byte(vectorBody)).Time, KindUserLogin, Success)
	e.Actor.Kind, e.PolicyIDs, e.Reason = ActorUser, []string{"a", "", "ünï"}, "naïve"
	row, err := Seal(e)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := parsePlain(row.Body); !ok || cmp.Diff(e, got) != "" {
		t.Errorf("%v %s", ok, cmp.Diff(e, got))
	}
}
