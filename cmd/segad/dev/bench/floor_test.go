//go:build linux

package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/keychain/secret"
)

// TestFloor: it checks proofs as the broker does, or it would be no floor of the broker's.
func TestFloor(t *testing.T) {
	var f floor
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.ServeHTTP(w, r) }))
	web.EnableHTTP2 = true
	web.StartTLS()
	defer web.Close()
	var err error
	f.origin = web.URL
	if f.nonces, err = dpop.NewNonces(nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if f.seen, err = dpop.NewReplay(0, f.nonces.Lifetime(), nil); err != nil {
		t.Fatal(err)
	}
	key, err := dpop.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	p := &person{origin: web.URL, key: key, token: secret.FromString("t"), http: web.Client()}
	for range 2 {
		if answer, err := p.post(t.Context(), api.RouteCertificate, []byte("{}")); err != nil || string(answer) != "{}" {
			t.Fatalf("%q, %v", answer, err)
		}
	}
	proof, err := key.Proof(http.MethodPost, "https://elsewhere.example"+api.RouteCertificate, p.token, p.nonce)
	if err != nil {
		t.Fatal(err)
	}
	if resp := send(t, web, proof); resp.StatusCode != api.KindUnauthenticated.Status() {
		t.Errorf("a proof for another server is answered with %s", resp.Status)
	}
	if proof, err = key.Proof(http.MethodPost, web.URL+api.RouteCertificate, p.token, p.nonce); err != nil {
		t.Fatal(err)
	}
	if first, again := send(t, web, proof), send(t, web, proof); first.StatusCode != http.StatusOK || again.StatusCode == http.StatusOK {
		t.Errorf("a proof that is shown twice: %s, then %s", first.Status, again.Status)
	}
}

func send(t *testing.T, web *httptest.Server, proof string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, web.URL+api.RouteCertificate, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "DPoP t")
	req.Header.Set(api.HeaderProof, proof)
	resp, err := web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp
}
