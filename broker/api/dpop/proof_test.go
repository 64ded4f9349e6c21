package dpop

import (
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/keychain/secret"
)

const target = "https://sega.corp.example/v1/roles"

func newTestKey(t testing.TB) Key {
	t.Helper()
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestProofRoundTrip(t *testing.T) {
	k := newTestKey(t)
	token := secret.FromString("sega_ses_abc")
	text, err := k.Proof("GET", target+"?limit=3#x", token, "n1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if got.JTI == "" || time.Since(got.IssuedAt).Abs() > time.Minute {
		t.Errorf("jti %q, issued at %v", got.JTI, got.IssuedAt)
	}
	sum := sha256.Sum256([]byte("sega_ses_abc"))
	want := Proof{Thumbprint: k.Thumbprint(), Method: "GET", HTU: target, Nonce: "n1",
		ATH: base64.RawURLEncoding.EncodeToString(sum[:]), JTI: got.JTI, IssuedAt: got.IssuedAt}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	again, err := k.Proof("GET", target, token, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Parse(again); err != nil || p.JTI == got.JTI {
		t.Errorf("the second proof has the first's jti %q (%v)", p.JTI, err)
	}
	if strings.Contains(text, "sega_ses_abc") {
		t.Error("the proof carries the token")
	}
}

// The proof of RFC 9449 §4.1, figure 2, and the thumbprint of its key, §6.1.
func TestPublishedVector(t *testing.T) {
	const figure = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19" +
		".eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ" +
		".2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
	got, err := Parse(figure)
	if err != nil {
		t.Fatal(err)
	}
	want := Proof{Thumbprint: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", JTI: "-BwC3ESc6acc2lTc", Method: "POST",
		HTU: "https://server.example.com/token", IssuedAt: time.Unix(1562262616, 0).UTC()}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestKeyMarshalRoundTrip(t *testing.T) {
	k := newTestKey(t)
	back, err := ParseKey(k.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if back.Thumbprint() != k.Thumbprint() || len(k.Thumbprint()) != 43 {
		t.Errorf("thumbprints %q and %q", k.Thumbprint(), back.Thumbprint())
	}
	text, err := back.Proof("GET", target, secret.Secret{}, "")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Parse(text); err != nil || p.Thumbprint != k.Thumbprint() || p.ATH != "" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	order := make([]byte, 32)
	for i := range order {
		order[i] = 0xff
	}
	for name, text := range map[string]string{
		"empty":         "",
		"other prefix":  "sega_ses_AAAA",
		"not base64url": keyPrefix + "???",
		"short":         keyPrefix + "AAAA",
		"zero":          keyPrefix + base64.RawURLEncoding.EncodeToString(make([]byte, 32)),
		"over order":    keyPrefix + base64.RawURLEncoding.EncodeToString(order),
	} {
		t.Run(name, func(t *testing.T) {
			k, err := ParseKey(secret.FromString(text))
			if err == nil || !k.Empty() {
				t.Errorf("took it: %v", err)
			}
		})
	}
	if _, err := (Key{}).Proof("GET", target, secret.Secret{}, ""); err == nil {
		t.Error("the zero key made a proof")
	}
	if s := (Key{}).Marshal(); !s.Empty() || (Key{}).Thumbprint() != "" {
		t.Error("the zero key is not empty")
	}
}

func TestKeyNeverPrints(t *testing.T) {
	k := newTestKey(t)
	raw, err := k.private().Bytes() // RFC 5915's integer, as fmt would print D
	if err != nil {
		t.Fatal(err)
	}
	d := new(big.Int).SetBytes(raw)
	forms := []string{d.String(), d.Text(16), strings.ToUpper(d.Text(16)), string(k.Marshal().Reveal()), fmt.Sprint(d.Bits())}
	type holder struct {
		Exported Key
		hidden   Key
		pointer  *Key
	}
	h := holder{k, k, &k}
	var out strings.Builder
	for _, v := range []any{k, &k, h, &h, []Key{k}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q", "%t", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "k", k, "h", h)
	j, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	for _, form := range forms {
		if strings.Contains(out.String(), form) {
			t.Fatal("the private key is printed")
		}
	}
	if !strings.Contains(out.String(), k.Thumbprint()) {
		t.Error("nothing was printed: the test looks at the wrong thing")
	}
}

func FuzzParse(f *testing.F) {
	k := newTestKey(f)
	good, err := k.Proof("POST", target, secret.FromString("t"), "n")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add("e30.e30.AAAA")
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrProof) || p != (Proof{}) {
				t.Fatalf("%+v, %v", p, err)
			}
			return
		}
		if again, err := Parse(text); err != nil || again != p || p.JTI == "" || len(p.Thumbprint) != 43 {
			t.Fatalf("%+v then %+v, %v", p, again, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	k := newTestKey(b)
	text, err := k.Proof("POST", target, secret.FromString("t"), "n")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCurveOfGeneratedKeys(t *testing.T) {
	if c := newTestKey(t).private().Curve; c != elliptic.P256() {
		t.Errorf("curve %v", c.Params().Name)
	}
}
