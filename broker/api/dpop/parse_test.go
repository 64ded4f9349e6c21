package dpop

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// forge signs any header and claims with k.
func forge(t *testing.T, k Key, header, claims string) string {
	t.Helper()
	text, err := k.sign(json.RawMessage(header), json.RawMessage(claims))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// pattern are a header and claims that are taken, for a test to bend.
func pattern(t *testing.T, k Key) (head, body string) {
	t.Helper()
	return `{"typ":"dpop+jwt","alg":"ES256","jwk":` + jwkOf(t, k) + `}`, `{"jti":"j","htm":"GET","htu":"` + target + `","iat":1}`
}

func jwkOf(t *testing.T, k Key) string {
	t.Helper()
	j, err := json.Marshal(publicJWK(&k.private().PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return string(j)
}

// refused checks that Parse takes none of the texts.
func refused(t *testing.T, cases map[string]string) {
	t.Helper()
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			if p, err := Parse(text); !errors.Is(err, ErrProof) || p != (Proof{}) {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
}

func TestParseRefusesHeaders(t *testing.T) {
	k := newTestKey(t)
	head, body := pattern(t, k)
	pub, otherJWK := jwkOf(t, k), jwkOf(t, newTestKey(t))
	cases := map[string]string{}
	for name, h := range map[string]string{
		"no typ":          `{"alg":"ES256","jwk":` + pub + `}`,
		"typ JWT":         strings.Replace(head, "dpop+jwt", "JWT", 1),
		"alg none":        strings.Replace(head, "ES256", "none", 1),
		"alg HS256":       strings.Replace(head, "ES256", "HS256", 1),
		"alg a number":    strings.Replace(head, `"ES256"`, "256", 1),
		"kid":             strings.Replace(head, "{", `{"kid":"1",`, 1),
		"jku":             strings.Replace(head, "{", `{"jku":"https://evil.example/",`, 1),
		"x5u":             strings.Replace(head, "{", `{"x5u":"https://evil.example/",`, 1),
		"crit":            strings.Replace(head, "{", `{"crit":["b64"],"b64":false,`, 1),
		"alg twice":       strings.Replace(head, "{", `{"alg":"none",`, 1),
		"name's case":     strings.Replace(head, `"alg"`, `"ALG"`, 1),
		"private key":     strings.Replace(head, `"crv"`, `"d":"AAAA","crv"`, 1),
		"other key":       `{"typ":"dpop+jwt","alg":"ES256","jwk":` + otherJWK + `}`,
		"no key":          `{"typ":"dpop+jwt","alg":"ES256"}`,
		"null key":        `{"typ":"dpop+jwt","alg":"ES256","jwk":null}`,
		"symmetric key":   `{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"oct","k":"AAAA"}}`,
		"P-384":           strings.Replace(head, "P-256", "P-384", 1),
		"off the curve":   `{"typ":"dpop+jwt","alg":"ES256","jwk":{"crv":"P-256","kty":"EC","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}}`,
		"short x":         `{"typ":"dpop+jwt","alg":"ES256","jwk":{"crv":"P-256","kty":"EC","x":"AAAA","y":"` + strings.Repeat("A", 43) + `"}}`,
		"header an array": `["dpop+jwt"]`,
	} {
		cases[name] = forge(t, k, h, body)
	}
	refused(t, cases)
}

func TestParseRefusesClaims(t *testing.T) {
	k := newTestKey(t)
	head, body := pattern(t, k)
	cases := map[string]string{}
	for name, c := range map[string]string{
		"no jti":       strings.Replace(body, `"jti":"j",`, "", 1),
		"empty jti":    strings.Replace(body, `"j"`, `""`, 1),
		"long jti":     strings.Replace(body, `"j"`, `"`+strings.Repeat("j", 129)+`"`, 1),
		"jti a number": strings.Replace(body, `"j"`, "1", 1),
		"no htm":       strings.Replace(body, `"htm":"GET",`, "", 1),
		"no iat":       strings.Replace(body, `,"iat":1`, "", 1),
		"iat a string": strings.Replace(body, `"iat":1`, `"iat":"1"`, 1),
		"iat negative": strings.Replace(body, `"iat":1`, `"iat":-1`, 1),
		"nonce null":   strings.Replace(body, `"iat":1`, `"iat":1,"nonce":null`, 1),
		"htm twice":    strings.Replace(body, "{", `{"htm":"POST",`, 1),
	} {
		cases[name] = forge(t, k, head, c)
	}
	refused(t, cases)
	if _, err := Parse(forge(t, k, head, strings.Replace(body, "{", `{"extra":{"a":[1]},`, 1))); err != nil {
		t.Errorf("an unknown claim is refused: %v", err)
	}
}

func TestParseRefusesForms(t *testing.T) {
	k := newTestKey(t)
	head, body := pattern(t, k)
	good := forge(t, k, head, body)
	if _, err := Parse(good); err != nil {
		t.Fatalf("the pattern itself is refused: %v", err)
	}
	parts := strings.Split(good, ".")
	refused(t, map[string]string{
		"empty": "", "two parts": parts[0] + "." + parts[1], "four parts": good + ".AAAA",
		"padding": good + "=", "line break": parts[0] + "." + parts[1] + "\n." + parts[2],
		"long":         strings.Repeat("A", maxProof+1),
		"no signature": parts[0] + "." + parts[1] + ".",
		"DER signature": parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(func() []byte {
			digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
			sig, err := ecdsa.SignASN1(rand.Reader, k.private(), digest[:])
			if err != nil {
				t.Fatal(err)
			}
			return sig
		}()),
		"zero signature": parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"other claims":   parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(body, "GET", "PUT", 1))) + "." + parts[2],
	})
}
