package endpoint

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sega/broker/api"
	"sega/keychain/secret"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 987654321, time.FixedZone("x", 3600))

// sample are credentials with secrets that nothing but a good answer may show.
func sample(role string) api.Credentials {
	return api.Credentials{AccessKeyID: "ASIA" + role, SecretAccessKey: secret.FromString("canary-secret"), SessionToken: secret.FromString("canary-token"), Expiration: noon,
		Role: role, AssumedRoleARN: "arn:aws:sts::123456789012:assumed-role/" + role + "/alice@example.com"}
}

// fakeSource answers with sample, or as act says.
type fakeSource struct {
	mu    sync.Mutex
	act   func(context.Context, api.CredentialsRequest) (api.Credentials, error)
	asked []string
}

func (f *fakeSource) Credentials(ctx context.Context, r api.CredentialsRequest) (api.Credentials, error) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Role)
	act := f.act
	f.mu.Unlock()
	if act == nil {
		return sample(r.Role), nil
	}
	return act(ctx, r)
}

func (f *fakeSource) do(act func(context.Context, api.CredentialsRequest) (api.Credentials, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.act = act
}

func (f *fakeSource) roles() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

// serve runs a handler on a free port of 127.0.0.1 until the test ends, and returns its address.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return ln.Addr().String()
}

func newServer(t testing.TB, c Config) (*Server, *fakeSource) {
	t.Helper()
	source := &fakeSource{}
	if c.Source == nil {
		c.Source = source
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, source
}

type answer struct {
	status int
	header http.Header
	body   string
}

// send writes a request as it is, so that nothing mends it, and reads the answer. "HOST" stands for
// the address.
func send(t testing.TB, address, request string) answer {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, strings.ReplaceAll(strings.ReplaceAll(request, "HOST", address), "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// get is what an SDK sends.
func get(t testing.TB, address, path, token string) answer {
	t.Helper()
	return send(t, address, "GET "+path+" HTTP/1.1\nHost: HOST\nAuthorization: "+token+"\nAccept: application/json\n\n")
}

// refused checks that an answer is a refusal in the protocol's form that shows no secret.
func refused(t testing.TB, a answer, status int) refusal {
	t.Helper()
	var r refusal
	if err := json.Unmarshal([]byte(a.body), &r); err != nil || a.status != status || r.Code == "" || r.Message == "" || strings.Contains(a.body, "canary") {
		t.Errorf("status %d, want %d (%v): %s", a.status, status, err, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	return r
}
