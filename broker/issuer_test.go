package broker

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/keychain/secret"
)

const issuerURL = "https://sega.test"

// issuerKey returns the P-256 key whose secret is n, always the same.
func issuerKey(t testing.TB, n byte) crypto.Signer {
	t.Helper()
	scalar := make([]byte, 32)
	scalar[31] = n
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newIssuer(t testing.TB, keys ...byte) *Issuer {
	t.Helper()
	var signers []crypto.Signer
	for _, n := range keys {
		signers = append(signers, issuerKey(t, n))
	}
	i, err := NewIssuer(issuerURL, signers)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestIssuerURL(t *testing.T) {
	for name, c := range map[string]struct {
		url  string
		want string // of the error; "": it is taken
	}{
		"a host":                      {"https://sega.corp.example", ""},
		"a path":                      {"https://cdn.corp.example/sega", ""},
		"loopback with a port":        {"https://127.0.0.1:8443", ""},
		"loopback of IPv6":            {"https://[::1]:8443", ""},
		"255 characters":              {"https://" + strings.Repeat("a", 247), ""},
		"256 characters":              {"https://" + strings.Repeat("a", 248), "of the form"},
		"http":                        {"http://sega.corp.example", "of the form"},
		"nothing":                     {"", "of the form"},
		"no scheme":                   {"sega.corp.example", "of the form"},
		"no host":                     {"https://", "of the form"},
		"a port":                      {"https://sega.corp.example:8443", "IAM takes no provider with one"},
		"a name that is not loopback": {"https://127.0.0.1.example:8443", "IAM takes no provider with one"},
		"an empty port":               {"https://sega.corp.example:", "of the form"},
		"a slash at the end":          {"https://sega.corp.example/", "of the form"},
		"two slashes":                 {"https://sega.corp.example//x", "of the form"},
		"a way up":                    {"https://sega.corp.example/../x", "of the form"},
		"a query":                     {"https://sega.corp.example?x=1", "of the form"},
		"an empty query":              {"https://sega.corp.example?", "of the form"},
		"a fragment":                  {"https://sega.corp.example#x", "of the form"},
		"a user":                      {"https://a@sega.corp.example", "of the form"},
		"capitals":                    {"https://Sega.corp.example", "of the form"},
		"the scheme in capitals":      {"HTTPS://sega.corp.example", "of the form"},
	} {
		t.Run(name, func(t *testing.T) {
			i, err := NewIssuer(c.url, []crypto.Signer{issuerKey(t, 1)})
			if c.want == "" && (err != nil || i.URL() != c.url) {
				t.Fatal(err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestIssuerKeys(t *testing.T) {
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		keys []crypto.Signer
		want string
	}{
		"none":              {nil, "no key"},
		"a CA's kind":       {[]crypto.Signer{edKey}, "key 1 is not one of ECDSA P-256"},
		"another curve":     {[]crypto.Signer{issuerKey(t, 1), p384}, "key 2 is not one of ECDSA P-256"},
		"the same one more": {[]crypto.Signer{issuerKey(t, 1), issuerKey(t, 2), issuerKey(t, 1)}, "key 3 is named twice"},
	} {
		t.Run(name, func(t *testing.T) {
			if i, err := NewIssuer(issuerURL, c.keys); err == nil || i != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestIssuerDocuments holds the documents, byte for byte, against the vectors: what is hosted elsewhere
// must be what the broker would serve, in every version.
func TestIssuerDocuments(t *testing.T) {
	i := newIssuer(t, 1, 2)
	if diff := cmp.Diff([]string{"xx0BcA-wMohw8atYDJOe6peGModklG2wRHBlXHMvl0M", "AhqHzaYXA5MzmDCrsseUsVBGKyfhDhvekx0THjH_xIE"}, i.KeyIDs()); diff != "" {
		t.Errorf("key IDs: -want +got\n%s", diff)
	}
	for _, doc := range i.Documents() {
		path := filepath.Join("testdata", "issuer", filepath.Base(doc.Path))
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(doc.Body)); diff != "" {
			t.Errorf("%s: -want +got\n%s", doc.Path, diff)
		}
		if bytes.Contains(doc.Body, []byte(`"d"`)) {
			t.Errorf("%s holds a private key", doc.Path)
		}
	}
}

// opens reports whether a token verifies by the key set of an issuer, under the key that it names.
func (i *Issuer) opens(t testing.TB, token secret.Secret) (payload string, ok bool) {
	t.Helper()
	jws, err := jose.ParseSignedCompact(string(token.Reveal()), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(i.docs[1].Body, &set); err != nil {
		t.Fatal(err)
	}
	keys := set.Key(jws.Signatures[0].Header.KeyID)
	if len(keys) != 1 {
		return "", false
	}
	body, err := jws.Verify(keys[0])
	return string(body), err == nil
}

func TestIssuerSigns(t *testing.T) {
	i := newIssuer(t, 1, 2)
	token, err := i.Sign(map[string]string{"sub": "usr_x"})
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := i.opens(t, token); !ok || got != `{"sub":"usr_x"}` {
		t.Errorf("%v, payload %q", ok, got)
	}
	header, _, _ := strings.Cut(string(token.Reveal()), ".")
	jws, err := jose.ParseSignedCompact(string(token.Reveal()), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || jws.Signatures[0].Header.KeyID != i.KeyIDs()[0] || jws.Signatures[0].Header.ExtraHeaders["typ"] != "JWT" {
		t.Errorf("%v, header %q", err, header)
	}
	if _, err := i.Sign(func() {}); err == nil {
		t.Error("what is no JSON was signed")
	}
}

// TestIssuerRotates goes through a rotation, step by step. What a cache learned at the step before must
// open what is signed now, and what was signed at the step before must open by what is published now.
func TestIssuerRotates(t *testing.T) {
	steps := []*Issuer{newIssuer(t, 1), newIssuer(t, 1, 2), newIssuer(t, 2, 1), newIssuer(t, 2)}
	for n, now := range steps {
		token, err := now.Sign(map[string]string{})
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []int{n - 1, n, n + 1} {
			if other < 0 || other >= len(steps) {
				continue
			}
			if _, ok := steps[other].opens(t, token); !ok {
				t.Errorf("a token of step %d does not open by the key set of step %d", n, other)
			}
		}
	}
	token, err := newIssuer(t, 2, 1).Sign(map[string]string{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := steps[0].opens(t, token); ok {
		t.Error("a key that was not published opens: the steps prove nothing")
	}
}

// TestIssuerServes: the documents come to everybody, may be kept by caches, and hold nothing that is of one
// answer alone.
func TestIssuerServes(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.WebIdentity = newIssuer(t, 1) })
	for _, doc := range w.config.WebIdentity.Documents() {
		rec := w.serve(get(doc.Path))
		h := rec.Header()
		if rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), doc.Body) || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "public, max-age=300" {
			t.Errorf("%s: %d %v", doc.Path, rec.Code, h)
		}
		if h.Get(api.HeaderNonce) != "" || h.Get(api.HeaderRequestID) != "" {
			t.Errorf("%s: headers %v", doc.Path, h)
		}
	}
	none := newWorld(t)
	for _, path := range []string{api.RouteDiscovery, api.RouteKeySet} {
		if rec := none.serve(get(path)); rec.Code != 404 {
			t.Errorf("without an issuer %s answers %d", path, rec.Code)
		}
	}
}
