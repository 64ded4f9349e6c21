//go:build linux

package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// wired connects to a server of the test's own and writes calls with these bodies.
func wired(t *testing.T, h2 bool, handler http.HandlerFunc, bodies ...string) (*wire, error) {
	t.Helper()
	web := httptest.NewUnstartedServer(handler)
	web.EnableHTTP2 = h2
	web.StartTLS()
	t.Cleanup(web.Close)
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	w, err := dialWire(t.Context(), web.URL, roots, net.IPv4(127, 0, 0, 1))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = w.conn.Close() })
	var messages []message
	for _, body := range bodies {
		messages = append(messages, message{fields: []hpack.HeaderField{{Name: "x-says", Value: body}, {Name: "x-same", Value: "always"}}, body: []byte(body)})
	}
	return w, w.write(web.URL, "/here", messages)
}

func TestWire(t *testing.T) {
	large := strings.Repeat("x", 100_000)
	w, err := wired(t, true, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Heard", r.Header.Get("X-Says"))
		fmt.Fprintf(w, "%s %s %s %s %s %d %s", r.Proto, r.Method, r.URL.Path, r.Header.Get("X-Says"), r.Header.Get("X-Same"), r.ContentLength, body)
		if string(body) == "large" {
			_, _ = io.WriteString(w, large)
		}
	}, "one", "two", "large", "three")
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := w.call(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.bodies()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"HTTP/2.0 POST /here one always 3 one", "HTTP/2.0 POST /here two always 3 two",
		"HTTP/2.0 POST /here large always 5 large" + large, "HTTP/2.0 POST /here three always 5 three"} {
		if string(got[i]) != want {
			t.Errorf("call %d: %.100q, want %.100q", i, got[i], want)
		}
	}
}

// TestWireRefused: what is no success counts as none, however much else went well.
func TestWireRefused(t *testing.T) {
	w, err := wired(t, true, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Says") == "bad" {
			http.Error(w, "no", http.StatusForbidden)
		}
	}, "good", "bad", "good")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := w.call(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.bodies(); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("an answer of 403 gives %v", err)
	}
	if _, err := wired(t, false, func(http.ResponseWriter, *http.Request) {}, "x"); err == nil {
		t.Error("a server without HTTP/2 is measured")
	}
}
