package endpoint

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/keychain/secret"
)

func TestChild(t *testing.T) {
	s, source := newServer(t, Config{})
	address := serve(t, s)
	path, token, err := s.Add(api.CredentialsRequest{Role: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	a := get(t, address, path, string(token.Reveal()))
	var got map[string]any
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d, %v: %s", a.status, err, a.body)
	}
	want := map[string]any{"AccessKeyId": "ASIAdev", "SecretAccessKey": "canary-secret", "Token": "canary-token", "Expiration": "2030-01-02T11:00:00Z", "AccountId": "123456789012"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("header %v", a.header)
	}
	if diff := cmp.Diff([]string{"dev"}, source.roles()); diff != "" {
		t.Error(diff)
	}
}

// TestHostile sends what no SDK sends, with the right token: nothing of it reaches the source.
func TestHostile(t *testing.T) {
	s, source := newServer(t, Config{})
	address := serve(t, s)
	path, token, err := s.Add(api.CredentialsRequest{Role: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	roles, err := s.AddRoles(func(role string) (api.CredentialsRequest, bool) {
		return api.CredentialsRequest{Role: role}, role == "dev"
	})
	if err != nil {
		t.Fatal(err)
	}
	auth := "Authorization: " + string(token.Reveal()) + "\n"
	port := address[strings.LastIndex(address, ":")+1:]
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"another host":            {"GET PATH HTTP/1.1\nHost: evil.example\n" + auth, 403},
		"another host, our port":  {"GET PATH HTTP/1.1\nHost: evil.example:" + port + "\n" + auth, 403},
		"localhost":               {"GET PATH HTTP/1.1\nHost: localhost:" + port + "\n" + auth, 403},
		"no port":                 {"GET PATH HTTP/1.1\nHost: 127.0.0.1\n" + auth, 403},
		"another port":            {"GET PATH HTTP/1.1\nHost: 127.0.0.1:1\n" + auth, 403},
		"another loopback":        {"GET PATH HTTP/1.1\nHost: 127.0.0.2:" + port + "\n" + auth, 403},
		"address in other form":   {"GET PATH HTTP/1.1\nHost: 127.1:" + port + "\n" + auth, 403},
		"no host (HTTP/1.0)":      {"GET PATH HTTP/1.0\n" + auth, 403},
		"absolute form":           {"GET http://HOSTPATH HTTP/1.1\nHost: HOST\n" + auth, 403},
		"origin":                  {"GET PATH HTTP/1.1\nHost: HOST\nOrigin: http://HOST\n" + auth, 403},
		"null origin":             {"GET PATH HTTP/1.1\nHost: HOST\nOrigin: null\n" + auth, 403},
		"empty origin":            {"GET PATH HTTP/1.1\nHost: HOST\nOrigin:\n" + auth, 403},
		"forwarded":               {"GET PATH HTTP/1.1\nHost: HOST\nX-Forwarded-For: 127.0.0.1\n" + auth, 403},
		"via":                     {"GET PATH HTTP/1.1\nHost: HOST\nVia: 1.1 proxy\n" + auth, 403},
		"POST":                    {"POST PATH HTTP/1.1\nHost: HOST\n" + auth, 405},
		"PUT":                     {"PUT PATH HTTP/1.1\nHost: HOST\n" + auth, 405},
		"OPTIONS":                 {"OPTIONS PATH HTTP/1.1\nHost: HOST\n" + auth, 405},
		"a body":                  {"GET PATH HTTP/1.1\nHost: HOST\nContent-Length: 1\n" + auth, 400},
		"a chunked body":          {"GET PATH HTTP/1.1\nHost: HOST\nTransfer-Encoding: chunked\n" + auth, 400},
		"an empty query":          {"GET PATH? HTTP/1.1\nHost: HOST\n" + auth, 400},
		"a query":                 {"GET PATH?x HTTP/1.1\nHost: HOST\n" + auth, 400},
		"no token":                {"GET PATH HTTP/1.1\nHost: HOST\n", 401},
		"token of another":        {"GET PATH HTTP/1.1\nHost: HOST\nAuthorization: " + string(roles.Reveal()) + "\n", 401},
		"token with a scheme":     {"GET PATH HTTP/1.1\nHost: HOST\nAuthorization: Bearer " + string(token.Reveal()) + "\n", 401},
		"a longer token":          {"GET PATH HTTP/1.1\nHost: HOST\nAuthorization: " + string(token.Reveal()) + "A\n", 401},
		"a shorter token":         {"GET PATH HTTP/1.1\nHost: HOST\nAuthorization: " + string(token.Reveal())[:50] + "\n", 401},
		"two tokens":              {"GET PATH HTTP/1.1\nHost: HOST\n" + auth + auth, 401},
		"the token of no path":    {"GET /child/x HTTP/1.1\nHost: HOST\nAuthorization: sega_ep_" + strings.Repeat("A", 43) + "\n", 401},
		"another path":            {"GET /child/x HTTP/1.1\nHost: HOST\n" + auth, 401},
		"the path of all":         {"GET /role/ HTTP/1.1\nHost: HOST\nAuthorization: " + string(roles.Reveal()) + "\n", 401},
		"a child's token, a role": {"GET /role/dev HTTP/1.1\nHost: HOST\n" + auth, 401},
		"a path below":            {"GET PATH/ HTTP/1.1\nHost: HOST\n" + auth, 401},
		"the path escaped":        {"GET /%63hild" + strings.TrimPrefix(path, "/child") + " HTTP/1.1\nHost: HOST\n" + auth, 401},
		"another role":            {"GET /role/prod HTTP/1.1\nHost: HOST\nAuthorization: " + string(roles.Reveal()) + "\n", 404},
		"a role with a slash":     {"GET /role/a%2Fb HTTP/1.1\nHost: HOST\nAuthorization: " + string(roles.Reveal()) + "\n", 401},
		"a role of two segments":  {"GET /role/dev/x HTTP/1.1\nHost: HOST\nAuthorization: " + string(roles.Reveal()) + "\n", 401},
		"a role with a newline":   {"GET /role/a%0ab HTTP/1.1\nHost: HOST\nAuthorization: " + string(roles.Reveal()) + "\n", 401},
		"a role that is not UTF8": {"GET /role/%ff HTTP/1.1\nHost: HOST\nAuthorization: " + string(roles.Reveal()) + "\n", 401},
		"a role that is too long": {"GET /role/" + strings.Repeat("a", 257) + " HTTP/1.1\nHost: HOST\nAuthorization: " + string(roles.Reveal()) + "\n", 401},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, send(t, address, strings.ReplaceAll(c.request, "PATH", path)+"\n"), c.status)
		})
	}
	if asked := source.roles(); len(asked) != 0 {
		t.Errorf("the source was asked for %q", asked)
	}
	// What was refused was refused for what it was.
	if a := get(t, address, path, string(token.Reveal())); a.status != http.StatusOK {
		t.Errorf("an SDK's request: %d %s", a.status, a.body)
	}
	if a := get(t, address, RolePath("dev"), string(roles.Reveal())); a.status != http.StatusOK {
		t.Errorf("an SDK's request for a role: %d %s", a.status, a.body)
	}
}

// TestFromElsewhere: a handler on a listener of somebody's own gives nothing to the network.
func TestFromElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		local, remote string
		want          bool
	}{
		"loopback":                       {"127.0.0.1:80", "127.0.0.1:1", true},
		"another loopback":               {"127.0.0.9:80", "127.0.0.1:1", true},
		"IPv6":                           {"[::1]:80", "[::1]:1", true},
		"IPv4 in IPv6":                   {"[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:1", true},
		"metadata":                       {"169.254.169.254:80", "169.254.169.254:1", true},
		"metadata by loopback":           {"169.254.169.254:80", "127.0.0.1:1", true},
		"a neighbour asks for metadata":  {"169.254.169.254:80", "10.0.0.7:1", false},
		"a container asks for metadata":  {"169.254.170.2:80", "172.17.0.2:1", false},
		"an interface":                   {"10.0.0.1:80", "10.0.0.1:1", false},
		"an interface, from the network": {"10.0.0.1:80", "10.0.0.7:1", false},
		"no address":                     {"", "", false},
		"a socket file":                  {"/run/x.sock", "@", false},
	} {
		if got := fromHere(c.local, c.remote); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for name, c := range map[string]struct {
		host, address string
		want          bool
	}{
		"exact":              {"127.0.0.1:8080", "127.0.0.1:8080", true},
		"IPv6":               {"[::1]:8080", "[::1]:8080", true},
		"port of HTTP":       {"169.254.169.254", "169.254.169.254:80", true},
		"port of HTTP, said": {"169.254.169.254:80", "169.254.169.254:80", true},
		"IPv6, port of HTTP": {"[fd00:ec2::254]", "[fd00:ec2::254]:80", true},
		"IPv4 in IPv6":       {"127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", true},
		"no port":            {"127.0.0.1", "127.0.0.1:8080", false},
		"no brackets":        {"fd00:ec2::254", "[fd00:ec2::254]:80", false},
		"empty":              {"", "127.0.0.1:80", false},
	} {
		if got := names(c.host, c.address); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestErrors: SDKs repeat 429 and 5xx; only what can mend itself is that.
func TestErrors(t *testing.T) {
	s, source := newServer(t, Config{})
	address := serve(t, s)
	path, token, err := s.Add(api.CredentialsRequest{Role: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err           error
		status        int
		code, message string
	}{
		"denied":      {api.Errorf(api.KindDenied, "no policy permits it"), 403, "denied", "no policy permits it"},
		"revoked":     {api.Errorf(api.KindRevoked, "access was revoked"), 403, "revoked", "access was revoked"},
		"login":       {api.Errorf(api.KindUnauthenticated, "you are not logged in").WithHint("run: sega login"), 401, "unauthenticated", "you are not logged in; run: sega login"},
		"step up":     {fmt.Errorf("wrapped: %w", api.Errorf(api.KindStepUp, "the login is too old")), 403, "step_up_required", "the login is too old"},
		"upstream":    {api.Errorf(api.KindUpstream, "AWS said no"), 424, "upstream", "AWS said no"},
		"unreachable": {api.Errorf(api.KindUnreachable, "the broker does not answer"), 503, "unreachable", "the broker does not answer"},
		"unavailable": {api.Errorf(api.KindUnavailable, "the log is full"), 503, "unavailable", "the log is full"},
		"too many":    {api.Errorf(api.KindRateLimited, "too many requests"), 429, "rate_limited", "too many requests"},
		"ours":        {api.Errorf("agent_locked", "the agent is locked"), 403, "agent_locked", "the agent is locked"},
		"a cause":     {api.Errorf(api.KindInternal, "internal error").WithCause(errors.New("canary")), 500, "internal", "internal error"},
		"any other":   {errors.New("canary"), 500, "internal", "internal error of sega"},
		"escapes":     {api.Errorf(api.KindDenied, "a\x1b[2Jb\nc\u202ed"), 403, "denied", "a [2Jb c d"},
	} {
		t.Run(name, func(t *testing.T) {
			source.do(func(context.Context, api.CredentialsRequest) (api.Credentials, error) { return sample("dev"), c.err })
			got := refused(t, get(t, address, path, string(token.Reveal())), c.status)
			if diff := cmp.Diff(refusal{c.code, c.message}, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestIncomplete: what lacks a field would be taken for credentials that never expire, or passed over
// for other ones.
func TestIncomplete(t *testing.T) {
	for name, spoil := range map[string]func(*api.Credentials){
		"key":        func(c *api.Credentials) { c.AccessKeyID = "" },
		"secret":     func(c *api.Credentials) { c.SecretAccessKey = secret.Secret{} },
		"token":      func(c *api.Credentials) { c.SessionToken = secret.Secret{} },
		"expiration": func(c *api.Credentials) { c.Expiration = time.Time{} },
	} {
		c := sample("dev")
		spoil(&c)
		if got, err := containerForm(c); err == nil {
			t.Errorf("without %s: %v", name, got)
		}
	}
}

func TestAccount(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:sts::123456789012:assumed-role/dev/alice":    "123456789012",
		"arn:aws-cn:sts::123456789012:assumed-role/a:b/alice": "123456789012",
		"arn:aws:sts::12345678901:assumed-role/dev/alice":     "",
		"arn:aws:sts::12345678901x:assumed-role/dev/alice":    "",
		"arn:aws:sts::123456789012":                           "",
		"urn:aws:sts::123456789012:assumed-role/dev/alice":    "",
		"": "",
		"arn:aws:sts::\u0661\u0661\u0661\u0661\u0661\u0661:role": "",
	} {
		if got := Account(api.Credentials{AssumedRoleARN: arn}); got != want {
			t.Errorf("%s: %q", arn, got)
		}
	}
}

func TestForget(t *testing.T) {
	for name, end := range map[string]func(s *Server, path string){
		"forget": func(s *Server, _ string) { s.Forget() },
		"drop":   func(s *Server, path string) { s.Drop(path) },
	} {
		t.Run(name, func(t *testing.T) {
			s, source := newServer(t, Config{})
			address := serve(t, s)
			path, token, err := s.Add(api.CredentialsRequest{Role: "dev"})
			if err != nil {
				t.Fatal(err)
			}
			// It ends while an answer is under way: revocation wins.
			source.do(func(context.Context, api.CredentialsRequest) (api.Credentials, error) {
				end(s, path)
				return sample("dev"), nil
			})
			refused(t, get(t, address, path, string(token.Reveal())), 403)
			source.do(nil)
			refused(t, get(t, address, path, string(token.Reveal())), 401)
		})
	}
}

func TestTokensAreTheirOwn(t *testing.T) {
	s, _ := newServer(t, Config{MaxPaths: 3})
	seen := map[string]bool{}
	for range 2 {
		path, token, err := s.Add(api.CredentialsRequest{Role: "dev"})
		if err != nil {
			t.Fatal(err)
		}
		if raw := string(token.Reveal()); !strings.HasPrefix(raw, "sega_ep_") || len(raw) != 8+43 || seen[raw] || seen[path] {
			t.Errorf("path %q, token of %d bytes", path, len(raw))
		}
		seen[string(token.Reveal())], seen[path] = true, true
	}
	first, err := s.AddRoles(func(string) (api.CredentialsRequest, bool) { return api.CredentialsRequest{}, true })
	if err != nil {
		t.Fatal(err)
	}
	path, _, err := s.Add(api.CredentialsRequest{Role: "dev"})
	if !errors.Is(err, ErrFull) {
		t.Errorf("a path too many: %q, %v", path, err)
	}
	// The second of its kind takes the first's place, and makes its token void.
	second, err := s.AddRoles(func(string) (api.CredentialsRequest, bool) { return api.CredentialsRequest{Role: "dev"}, true })
	if err != nil || second.Equal(first) {
		t.Errorf("again: %v", err)
	}
	address := serve(t, s)
	refused(t, get(t, address, RolePath("dev"), string(first.Reveal())), 401)
	s.Forget()
	if _, _, err := s.Add(api.CredentialsRequest{Role: "dev"}); err != nil {
		t.Errorf("after Forget: %v", err)
	}
}

// TestSourceIsBounded: a source that hangs is given up.
func TestSourceIsBounded(t *testing.T) {
	s, source := newServer(t, Config{Wait: time.Millisecond})
	address := serve(t, s)
	path, token, err := s.Add(api.CredentialsRequest{Role: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	source.do(func(ctx context.Context, _ api.CredentialsRequest) (api.Credentials, error) {
		<-ctx.Done()
		return api.Credentials{}, api.Errorf(api.KindUnreachable, "the broker does not answer").WithCause(ctx.Err())
	})
	refused(t, get(t, address, path, string(token.Reveal())), 503)
}

// TestGoneClient: the source hears that the asker has gone.
func TestGoneClient(t *testing.T) {
	s, source := newServer(t, Config{})
	address := serve(t, s)
	path, token, err := s.Add(api.CredentialsRequest{Role: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	began, ended := make(chan struct{}), make(chan error, 1)
	source.do(func(ctx context.Context, _ api.CredentialsRequest) (api.Credentials, error) {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return api.Credentials{}, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", string(token.Reveal()))
	if resp, err := http.DefaultClient.Do(r); err == nil {
		_ = resp.Body.Close()
		t.Error("it was answered")
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the source saw %v", err)
	}
}

// TestSlowClient: who does not finish asking is cut off, and others are served meanwhile.
func TestSlowClient(t *testing.T) {
	s, _ := newServer(t, Config{})
	address := serve(t, s)
	slow, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	if _, err := slow.Write([]byte("GET / HTTP/1.1\r\nHost:")); err != nil {
		t.Fatal(err)
	}
	refused(t, get(t, address, "/", "x"), 401)
	_ = slow.SetReadDeadline(time.Now().Add(4 * readTime))
	if _, err := io.ReadAll(slow); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("it is still connected")
	}
}

// TestLongHeader: nobody makes the server hold more than it reads of an SDK.
func TestLongHeader(t *testing.T) {
	s, _ := newServer(t, Config{})
	c, err := net.Dial("tcp", serve(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 24<<10)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, " 431 ") {
		t.Errorf("%q, %v", line, err)
	}
}

func TestListen(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0", ":0", "10.0.0.1:0", "localhost:0", "169.254.169.253:0", "127.0.0.1", "", "example.com:80", "[fe80::1%lo]:0"} {
		if ln, err := Listen(t.Context(), address); err == nil {
			_ = ln.Close()
			t.Errorf("%q is listened on", address)
		}
	}
	for _, address := range []string{"127.0.0.1:0", "127.0.0.9:0", "[::1]:0", "[::ffff:127.0.0.1]:0"} {
		ln, err := Listen(t.Context(), address)
		if err != nil {
			t.Errorf("%q: %v", address, err)
			continue
		}
		_ = ln.Close()
	}
}

func TestNew(t *testing.T) {
	for name, c := range map[string]Config{"no source": {}, "negative": {Source: &fakeSource{}, MaxPaths: -1}} {
		if s, err := New(c); err == nil {
			t.Errorf("%s: %v", name, s)
		}
	}
}
