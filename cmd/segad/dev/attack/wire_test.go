//go:build linux

package attack

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/keychain/secret"
)

// holder is a DPoP key that can sign anything at all.
type holder struct {
	*ecdsa.PrivateKey
	dpop.Key
}

func newHolder(t testing.TB) *holder {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := k.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key, err := dpop.ParseKey(secret.FromString("sega_dpop_" + b64(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return &holder{k, key}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwk is the public half as it stands in a proof.
func (h *holder) jwk() map[string]any {
	point, err := h.PublicKey.Bytes() // 4 ‖ x ‖ y
	if err != nil {
		panic(err) // a P-256 key of ours
	}
	return map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
}

// es256 signs the input of a JWS.
func (h *holder) es256(input string) []byte {
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, h.PrivateKey, sum[:])
	if err != nil {
		panic(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// jws joins header, claims and signature.
func jws(header, claims map[string]any, sign func(string) []byte) string {
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	input := b64(h) + "." + b64(c)
	return input + "." + b64(sign(input))
}

// shot is one request. What is not set is right.
type shot struct {
	method, path string
	body         any // JSON, or []byte as it is
	key          *holder
	token        string
	nonce        string // "": a fresh one
	proofs       []string
	noProof      bool
	forge        func(s shot, header, claims map[string]any) string // the proof, from what would be right
	header       map[string]string
}

func post(path string, key *holder, token string, body any) shot {
	return shot{method: "POST", path: path, key: key, token: token, body: body}
}

func get(path string, key *holder, token string) shot {
	return shot{method: "GET", path: path, key: key, token: token}
}

// answer is what came back.
type answer struct {
	code    int
	body    string
	header  http.Header
	problem api.Problem
}

// nonce fetches a fresh nonce.
func (w *world) nonce() string {
	w.t.Helper()
	resp, err := w.web.Client().Get(w.web.URL + api.RouteConfiguration)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.Header.Get(api.HeaderNonce)
}

// proof makes the proof of a shot.
func (w *world) proof(s shot) string {
	w.t.Helper()
	if s.nonce == "" {
		s.nonce = w.nonce()
	}
	path, _, _ := strings.Cut(s.path, "?")
	claims := map[string]any{"jti": rand.Text(), "htm": s.method, "htu": w.web.URL + path, "iat": w.clock.now().Unix(), "nonce": s.nonce}
	if s.token != "" {
		claims["ath"] = dpop.ATH(secret.FromString(s.token))
	}
	header := map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": s.key.jwk()}
	if s.forge != nil {
		return s.forge(s, header, claims)
	}
	return jws(header, claims, s.key.es256)
}

// request builds the HTTP request of a shot.
func (w *world) request(s shot) *http.Request {
	w.t.Helper()
	var body io.Reader
	switch v := s.body.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(v)
	default:
		if r, ok := v.(api.Revealer); ok {
			v = r.Wire()
		}
		raw, err := json.Marshal(v)
		if err != nil {
			w.t.Fatal(err)
		}
		body = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), s.method, w.web.URL+s.path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if s.proofs == nil && s.key != nil && !s.noProof {
		s.proofs = []string{w.proof(s)}
	}
	r.Header[http.CanonicalHeaderKey(api.HeaderProof)] = s.proofs
	if s.token != "" {
		r.Header.Set("Authorization", "DPoP "+s.token)
	}
	for name, value := range s.header {
		r.Header.Set(name, value)
	}
	return r
}

// send fires a shot over the network.
func (w *world) send(s shot) answer {
	w.t.Helper()
	resp, err := w.web.Client().Do(w.request(s))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return read(resp.StatusCode, resp.Header, body)
}

// sendFrom fires a shot at the handler itself, from an address of choice.
func (w *world) sendFrom(addr string, s shot) answer {
	w.t.Helper()
	r := w.request(s)
	r.RemoteAddr, r.RequestURI = addr, ""
	out := httptest.NewRecorder()
	w.server.ServeHTTP(out, r)
	return read(out.Code, out.Header(), out.Body.Bytes())
}

func read(code int, header http.Header, body []byte) answer {
	a := answer{code: code, body: string(body), header: header}
	if code != http.StatusOK {
		_ = json.Unmarshal(body, &a.problem)
	}
	return a
}

// into decodes a good answer.
func into[T any](t testing.TB, a answer) T {
	t.Helper()
	var v T
	if a.code != http.StatusOK {
		t.Fatalf("HTTP %d: %s", a.code, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

// handedOut lists what must not be in the answer to an attack.
var handedOut = []string{api.PrefixSession, api.PrefixMachine, "-cert-v01@openssh.com", "secret_access_key", "ASIA", "SigninToken", `"address"`}

// refused checks that an attack got a problem of that kind and nothing else.
func (w *world) refused(a answer, kind api.Kind) {
	w.t.Helper()
	if a.code != kind.Status() || a.problem.Kind != kind || a.problem.Detail == "" {
		w.t.Errorf("HTTP %d %s, want %d %s", a.code, a.body, kind.Status(), kind)
	}
	for _, bad := range handedOut {
		if strings.Contains(a.body, bad) {
			w.t.Errorf("the answer hands out %s: %s", bad, a.body)
		}
	}
}

// size is how many events the log has.
func (w *world) size() int64 {
	_, tree := w.log.Head()
	return tree.N
}

// logged is an event with its place and details.
type logged struct {
	audit.Event
	index   int64
	details string
}

// since returns the events from a size of the log on.
func (w *world) since(size int64) []logged {
	w.t.Helper()
	var out []logged
	for row, err := range w.log.Rows(w.t.Context(), size, w.size()) {
		if err != nil {
			w.t.Fatal(err)
		}
		e, err := audit.Parse(row.Body)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, logged{e, row.Index, string(row.Details)})
	}
	return out
}

// only returns the one event since a size, which must be of that kind and outcome.
func (w *world) only(size int64, kind string, outcome audit.Outcome) logged {
	w.t.Helper()
	got := w.since(size)
	if len(got) != 1 || got[0].Kind != kind || got[0].Outcome != outcome {
		w.t.Fatalf("events %s, want one %s %s", kinds(got), kind, outcome)
	}
	if got[0].Source == "" || got[0].RequestID == "" || got[0].Node == "" {
		w.t.Errorf("the event does not say from where: %+v", got[0])
	}
	return got[0]
}

func kinds(events []logged) string {
	var out []string
	for _, e := range events {
		out = append(out, e.Kind+" "+string(e.Outcome))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// attack fires a shot which must be refused and leave one event.
func (w *world) attack(s shot, kind api.Kind, event string, outcome audit.Outcome) logged {
	w.t.Helper()
	before := w.size()
	w.refused(w.send(s), kind)
	return w.only(before, event, outcome)
}

func with(claims map[string]any, more map[string]any) map[string]any {
	out := maps.Clone(claims)
	for name, v := range more {
		out[name] = v
		if v == nil {
			delete(out, name)
		}
	}
	return out
}
