package client

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/keychain/secret"
)

const (
	tokenCanary = "sega_ses_CANARY-token-7d21"
	bodyCanary  = "CANARY-body-93fa"
)

var testNote = []byte("sega.example/log\n3\nabc\n\n— sig\n")

// seen is a request as the broker saw it.
type seen struct {
	Method, Path, Query string
	Proof, Token        bool
	Body                string
}

// broker is a TLS server that checks proofs as the real one does and answers what a test says.
type broker struct {
	*httptest.Server
	nonces *dpop.Nonces
	replay *dpop.Replay

	mu   sync.Mutex
	seen []seen
	jtis map[string]bool

	// answer writes the answer to a request whose proof is good.
	answer http.HandlerFunc
}

func newBroker(t *testing.T, answer http.HandlerFunc) *broker {
	t.Helper()
	return startBroker(t, true, answer)
}

func startBroker(t *testing.T, http2 bool, answer http.HandlerFunc) *broker {
	t.Helper()
	b := &broker{answer: answer, jtis: map[string]bool{}}
	var err error
	if b.nonces, err = dpop.NewNonces(nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if b.replay, err = dpop.NewReplay(0, b.nonces.Lifetime(), nil); err != nil {
		t.Fatal(err)
	}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(b.serve))
	b.EnableHTTP2 = http2
	b.Config.ErrorLog = log.New(io.Discard, "", 0)
	b.StartTLS()
	t.Cleanup(b.Server.Close)
	return b
}

func (b *broker) serve(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s := seen{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Proof: r.Header.Get("DPoP") != "", Token: r.Header.Get("Authorization") != "", Body: string(data)}
	w.Header().Set(api.HeaderNonce, b.nonces.Issue())
	w.Header().Set(api.HeaderCheckpoint, base64.StdEncoding.EncodeToString(testNote))
	w.Header().Set(api.HeaderRequestID, "req-1")
	if s.Proof {
		if err := b.check(r, s); err != nil {
			kind := api.KindUnauthenticated
			if errors.Is(err, dpop.ErrNonce) {
				kind = api.KindNonce
			}
			writeProblem(w, api.Errorf(kind, "%v", err))
			return
		}
	}
	b.mu.Lock()
	b.seen = append(b.seen, s)
	b.mu.Unlock()
	b.answer(w, r)
}

func (b *broker) check(r *http.Request, s seen) error {
	p, err := dpop.Parse(r.Header.Get("DPoP"))
	if err != nil {
		return err
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "DPoP ")
	b.mu.Lock()
	again := b.jtis[p.JTI]
	b.jtis[p.JTI] = true
	b.mu.Unlock()
	if again {
		return errors.New("a jti came twice")
	}
	return dpop.Check(p, dpop.Want{Method: r.Method, HTU: b.URL + s.Path, ATH: dpop.ATH(secret.FromString(token))}, b.nonces, b.replay)
}

func (b *broker) requests() []seen {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]seen(nil), b.seen...)
}

func writeProblem(w http.ResponseWriter, p *api.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

func writeJSON(w http.ResponseWriter, v any) {
	if r, ok := v.(api.Revealer); ok {
		v = r.Wire()
	}
	w.Header().Set("Content-Type", typeJSON)
	_ = json.NewEncoder(w).Encode(v)
}

// answers makes a handler that gives v.
func answers(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, v) }
}

func (b *broker) config(t *testing.T) Config {
	t.Helper()
	k, err := dpop.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(b.Certificate())
	return Config{Origin: b.URL, RootCAs: pool, Key: k, UserAgent: "sega/test",
		Token: func() secret.Secret { return secret.FromString(tokenCanary) }, Timeout: 10 * time.Second}
}

func (b *broker) client(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	cfg := b.config(t)
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// collect reads a sequence to its end.
func collect[T any](seq func(func(T, error) bool)) (items []T, err error) {
	for item, e := range seq {
		if e != nil {
			return items, e
		}
		items = append(items, item)
	}
	return items, nil
}
