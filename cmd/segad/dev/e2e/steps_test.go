//go:build linux

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/cmd/segad/dev/browser"
	"sega/cmd/segad/dev/devtest"
)

// people of `segad dev up`.
const (
	alice   = "alice@example.com"
	bob     = "bob@example.com"
	sam     = "sam@example.com"
	carol   = "carol@example.com"
	mallory = "mallory@example.com"
)

// patience is how long a test waits for what comes within milliseconds on a machine at rest.
const patience = 20 * time.Second

// expect fails the test unless a command ended with code and its output, both streams together,
// contains every text.
func expect(t testing.TB, r devtest.Result, code int, texts ...string) {
	t.Helper()
	both := r.Out + r.Err
	if r.Code != code {
		t.Errorf("exit %d, want %d\n%s", r.Code, code, both)
		return
	}
	for _, text := range texts {
		if !strings.Contains(both, text) {
			t.Errorf("%q is not in:\n%s", text, both)
		}
	}
}

// field returns a field of an event or of another object, "" where there is none. Dots go deeper.
func field(v map[string]any, path string) string {
	var at any = v
	for _, name := range strings.Split(path, ".") {
		m, ok := at.(map[string]any)
		if !ok {
			return ""
		}
		at = m[name]
	}
	if at == nil {
		return ""
	}
	return fmt.Sprint(at)
}

// fields are the values of one field of all events.
func fields(events []map[string]any, path string) []string {
	out := make([]string, len(events))
	for i, e := range events {
		out[i] = field(e, path)
	}
	return out
}

// credentials are what a person types at the provider.
func credentials(t testing.TB, e *devtest.Env, email string) browser.Credentials {
	t.Helper()
	for _, u := range e.Users {
		if u.Email == email {
			return browser.Credentials{Email: u.Email, Password: u.Password, TOTPSecret: u.TOTPSecret}
		}
	}
	t.Fatalf("nobody is called %s", email)
	return browser.Credentials{}
}

func readyz(t testing.TB, e *devtest.Env) (status int, body string) {
	t.Helper()
	return unasked(t, e, "/readyz")
}

// unasked asks the broker without a session, over TLS that trusts the environment's CA alone.
func unasked(t testing.TB, e *devtest.Env, route string) (status int, body string) {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(e.Data, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	web := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	resp, err := web.Get(e.Broker + route)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// objects reads one JSON object a line.
func objects(t testing.TB, text string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(text) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("a line is no object: %v\n%s", err, line)
		}
		out = append(out, v)
	}
	return out
}
