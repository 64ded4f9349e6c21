package dpop

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/keychain/secret"
)

// FuzzPlain: the fast way takes nothing that the general way refuses, and reads the same.
func FuzzPlain(f *testing.F) {
	const head = `{"typ":"dpop+jwt","alg":"ES256","jwk":{"crv":"P-256","kty":"EC","x":"eA","y":"eQ"}}`
	const body = `{"jti":"j","htm":"GET","htu":"https://sega.corp.example/","iat":1,"ath":"a","nonce":"n"}`
	for _, text := range []string{head, body} {
		f.Add([]byte(text))
		for _, change := range [][2]string{{`"j"`, `""`}, {`"j"`, `"\u0061"`}, {`"j"`, "\"\xff\""}, {`"j"`, "\"\x7f\""}, {`"j"`, "\"a\nb\""}, {`:1,`, `:01,`}, {`:1,`, `:-1,`}, {`:1,`, `:,`},
			{`:1,`, `:1e3,`}, {`:1,`, `:253402300800,`}, {`:1,`, `:99999999999999999999,`}, {`}`, `},`}, {`"a"`, `""`}, {`"eA"`, "\"e\r\nA\""}, {`"x"`, `"d"`}, {`"j"`, `"` + strings.Repeat("j", maxJTI+1) + `"`}} {
			f.Add([]byte(strings.Replace(text, change[0], change[1], 1)))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if fast, ok := plainHeader(data); ok {
			slow, err := parseAnyHeader(data)
			if err != nil || slow != fast {
				t.Errorf("header %q: %+v, not %+v (%v)", data, fast, slow, err)
			}
		}
		if fast, ok := plainClaims(data, "t"); ok {
			slow, err := parseAnyClaims(data, "t")
			if diff := cmp.Diff(slow, fast); err != nil || diff != "" {
				t.Errorf("claims %q: %v\n%s", data, err, diff)
			}
		}
	})
}

// TestPlainTakesOurOwn: the fast way is the one that is gone.
func TestPlainTakesOurOwn(t *testing.T) {
	c := newClock()
	n, _ := newServer(t, c)
	text, err := newTestKey(t).Proof("POST", target, secret.FromString("sega_ses_1"), n.Issue())
	if err != nil {
		t.Fatal(err)
	}
	var raw [2][]byte
	for i, part := range strings.Split(text, ".")[:2] {
		if raw[i], err = strict.DecodeString(part); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := plainHeader(raw[0]); !ok {
		t.Errorf("left to the general way: %s", raw[0])
	}
	if _, ok := plainClaims(raw[1], ""); !ok {
		t.Errorf("left to the general way: %s", raw[1])
	}
	if _, ok := plainClaims(bytes.Replace(raw[1], []byte(`"nonce"`), []byte(`"kid"`), 1), ""); ok {
		t.Error("a claim that nobody knows was taken by the fast way")
	}
}
