//go:build linux

package agent

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sega/broker/api"
	"sega/keychain/secret"
)

// running is an agent at a socket of its own.
type running struct {
	t      *testing.T
	socket string
	broker *broker
	done   chan error // how Run has ended
}

// start starts an agent whose stored session is at b; more may change its Config.
func start(t *testing.T, b *broker, more func(*Config)) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "sega-agent-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return startAt(t, filepath.Join(dir, "socket"), b, more)
}

func startAt(t *testing.T, socket string, b *broker, more func(*Config)) *running {
	t.Helper()
	cfg := Config{Socket: socket, Version: "test", Logger: quiet(), Open: func(context.Context) (Login, error) { return b, nil }, Unlock: func(secret.Secret) error { return nil }, Lock: func() {}}
	if more != nil {
		more(&cfg)
	}
	r := &running{t: t, socket: socket, broker: b, done: make(chan error, 1)}
	ctx, stop := context.WithCancel(context.Background())
	ready := make(chan struct{})
	go func() { r.done <- Run(ctx, cfg, func() { close(ready) }) }()
	t.Cleanup(func() { stop(); r.ends() })
	select {
	case <-ready:
	case err := <-r.done:
		t.Fatalf("the agent does not start: %v", err)
	}
	return r
}

// ends waits for the end of the agent.
func (r *running) ends() {
	r.t.Helper()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("the agent has ended with %v", err)
		}
		r.done <- nil // for the next who asks
	case <-time.After(20 * time.Second):
		r.t.Error("the agent does not end")
	}
}

func (r *running) call(q Request) (Reply, error) { return Call(context.Background(), r.socket, q) }

// must is call for what is answered without a problem.
func (r *running) must(q Request) Reply {
	r.t.Helper()
	reply, err := r.call(q)
	if err == nil && reply.Problem != nil {
		err = reply.Problem
	}
	if err != nil {
		r.t.Fatalf("%s: %v", q.Op, err)
	}
	return reply
}

// kind is what a request fails with.
func (r *running) kind(q Request) api.Kind {
	r.t.Helper()
	reply, err := r.call(q)
	if err != nil {
		r.t.Fatalf("%s: %v", q.Op, err)
	}
	if reply.Problem == nil {
		return ""
	}
	return reply.Problem.Kind
}

func (r *running) dial(socket string) *net.UnixConn {
	r.t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func wantDev(op string) Request {
	return Request{Op: op, Credentials: &api.CredentialsRequest{Role: "dev"}, Process: os.Getpid()}
}

func TestServer(t *testing.T) {
	b := newBroker()
	r := start(t, b, nil)
	if s := r.must(Request{Op: OpStatus}).Status; s.State != StateEmpty || s.PID != os.Getpid() {
		t.Errorf("%+v", s)
	}
	g := r.must(wantDev(OpCredentials)).Granted
	if g.AccessKeyID != "ASIA1" || string(g.SecretAccessKey.Reveal()) != "secret-1" || g.LoginID != "ses_1" {
		t.Errorf("%+v", g)
	}
	form, _, err := Process(t.Context(), r.socket, wantDev(""))
	if err != nil || !strings.HasPrefix(string(form), `{"Version":1,"AccessKeyId":"ASIA1","SecretAccessKey":"secret-1",`) || !strings.HasSuffix(string(form), "}\n") {
		t.Errorf("%s, %v", form, err)
	}
	s := r.must(Request{Op: OpStatus}).Status
	if diff := cmp.Diff([]Held{{Role: "dev"}}, s.Roles, cmpopts.IgnoreFields(Held{}, "Expires")); diff != "" || s.State != StateReady || !s.FeedAlive {
		t.Errorf("%+v\n%s", s, diff)
	}
	if kind := r.kind(Request{Op: OpCredentials}); kind != api.KindInvalid {
		t.Errorf("credentials of nothing: %q", kind)
	}
	if kind := r.kind(Request{Op: OpCredentials, Broker: "https://other.example", Credentials: &api.CredentialsRequest{Role: "dev"}}); kind != KindOther {
		t.Errorf("of another broker: %q", kind)
	}
	if kind := r.kind(Request{Op: OpEndpoint, Credentials: &api.CredentialsRequest{Role: "dev"}}); kind != api.KindInvalid {
		t.Errorf("an endpoint for no process: %q", kind)
	}
	if kind := r.kind(Request{Op: "sing"}); kind != api.KindInvalid {
		t.Errorf("unknown: %q", kind)
	}
}

// TestLock: a locked agent holds nothing and answers nothing.
func TestLock(t *testing.T) {
	locked := 0
	r := start(t, newBroker(), func(c *Config) {
		c.Lock = func() { locked++ }
		c.Unlock = func(key secret.Secret) error {
			if string(key.Reveal()) != "a key\x00\xff\xfe" {
				return api.Errorf(KindNeedsKey, "x")
			}
			return nil
		}
	})
	r.must(wantDev(OpCredentials))
	if s := r.must(Request{Op: OpLock}).Status; s.State != StateLocked || len(s.Roles) != 0 || locked != 1 {
		t.Errorf("%+v, the key was forgotten %d times", s, locked)
	}
	for _, op := range []string{OpCredentials, OpProcess, OpEndpoint, OpSession} {
		if kind := r.kind(wantDev(op)); kind != KindLocked {
			t.Errorf("%s: %q", op, kind)
		}
	}
	if kind := r.kind(Request{Op: OpUnlock, Key: secret.FromString("other")}); kind != KindNeedsKey {
		t.Errorf("by another key: %q", kind)
	}
	if kind := r.kind(wantDev(OpCredentials)); kind != KindLocked {
		t.Errorf("after another key: %q", kind)
	}
	r.must(Request{Op: OpUnlock, Key: secret.FromString("a key\x00\xff\xfe")})
	r.must(wantDev(OpCredentials))
}

// TestEndedWhileOpening: a login that ends here while it is being opened is not held afterwards.
func TestEndedWhileOpening(t *testing.T) {
	for op, want := range map[string]api.Kind{OpForget: api.KindUnavailable, OpReload: api.KindUnavailable, OpLock: KindLocked} {
		t.Run(op, func(t *testing.T) {
			b := newBroker()
			asked, held, locked := make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 8)
			r := start(t, b, func(c *Config) {
				c.Open = func(context.Context) (Login, error) {
					asked <- struct{}{}
					<-held
					return b, nil
				}
				c.Lock = func() { locked <- struct{}{} }
			})
			got := make(chan api.Kind, 1)
			go func() { got <- r.kind(wantDev(OpCredentials)) }()
			<-asked
			r.must(Request{Op: op})
			close(held)
			if kind := <-got; kind != want {
				t.Errorf("%q, want %q", kind, want)
			}
			if s := r.must(Request{Op: OpStatus}).Status; s.State == StateReady || len(s.Roles) != 0 {
				t.Errorf("%+v", s)
			}
			<-b.closed // the login that nobody wanted
			if n := len(locked); op == OpLock && n != 2 {
				t.Errorf("the key was forgotten %d times, want 2: it may have been fetched in between", n)
			}
		})
	}
}

// TestOtherPerson: what was given to the children of one person gets nothing of the next.
func TestOtherPerson(t *testing.T) {
	first, second := newBroker(), newBroker()
	second.id, second.subject = "ses_2", "bob"
	current := first
	r := start(t, first, func(c *Config) { c.Open = func(context.Context) (Login, error) { return current, nil } })
	at := r.must(wantDev(OpEndpoint)).Endpoint
	get := func() int {
		t.Helper()
		q, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, at.URL, nil)
		q.Header.Set("Authorization", string(at.Token.Reveal()))
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusOK && strings.Contains(string(body), "ASIA") {
			t.Errorf("%s", body)
		}
		return resp.StatusCode
	}
	if code := get(); code != http.StatusOK {
		t.Fatalf("HTTP %d", code)
	}
	r.must(Request{Op: OpLock})
	if code := get(); code != http.StatusForbidden {
		t.Errorf("locked: HTTP %d", code)
	}
	r.must(Request{Op: OpUnlock})
	r.must(Request{Op: OpReload}) // the same person again
	if code := get(); code != http.StatusOK {
		t.Errorf("after another login of the same person: HTTP %d", code)
	}
	current = second
	r.must(Request{Op: OpReload})
	for range 2 { // the first one opens the login
		if code := get(); code/100 != 4 {
			t.Errorf("after the login of another person: HTTP %d", code)
		}
	}
	if g := r.must(wantDev(OpCredentials)).Granted; g.LoginID != "ses_2" {
		t.Errorf("the login is %s", g.LoginID)
	}
	if _, err := (&children{person: personKey(api.Person{Subject: "bob"})}).add(t.Context(), api.Person{Subject: "alice"}, 1, api.CredentialsRequest{}); !api.IsKind(err, api.KindUnauthenticated) {
		t.Errorf("an endpoint for whoever was logged in before: %v", err)
	}
}

// TestLoginOutlivesItsAsker: what a child has caused to be opened is not bound to the child's request, which ends.
func TestLoginOutlivesItsAsker(t *testing.T) {
	b := newBroker()
	var opened context.Context
	r := start(t, b, func(c *Config) {
		c.Open = func(ctx context.Context) (Login, error) { opened = ctx; return b, nil }
	})
	at := r.must(wantDev(OpEndpoint)).Endpoint
	r.must(Request{Op: OpReload})
	opened = nil
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", string(at.Token.Reveal()))
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || opened == nil {
		t.Fatalf("HTTP %d, opened: %t", resp.StatusCode, opened != nil)
	}
	r.must(Request{Op: OpStatus})
	if _, ends := opened.Deadline(); ends || opened.Err() != nil {
		t.Errorf("the login ends with the request: %v", opened.Err())
	}
}

// TestStrangeClients: whatever somebody sends or does not send, the agent answers the next one.
func TestStrangeClients(t *testing.T) {
	r := start(t, newBroker(), nil)
	long := strings.Repeat("a", 10<<20) + "\n"
	for name, text := range map[string]string{"nothing": "", "garbage": "\x00\xff\n", "no line": "{", "another form": "[]\n", "half a request": `{"v":1,"op":"status"`, "long": long, "HTTP": "GET / HTTP/1.1\r\n\r\n"} {
		conn := r.dial(r.socket)
		_, _ = io.WriteString(conn, text) // the long one is cut off
		_ = conn.CloseWrite()
		if answer, err := io.ReadAll(conn); len(answer) != 0 {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
	}
	for text, want := range map[string]string{`{"v":2,"op":"status"}`: `another version of sega`, `{"v":1}`: `does not know how to`, `{"v":1,"op":"status","more":1}`: `"state":"empty"`} {
		conn := r.dial(r.socket)
		_, _ = io.WriteString(conn, text+"\n")
		if answer, err := io.ReadAll(conn); !strings.Contains(string(answer), want) {
			t.Errorf("%s: %s, %v", text, answer, err)
		}
	}
	if _, err := r.call(Request{Op: OpCredentials, Credentials: &api.CredentialsRequest{Role: "dev", Policy: long}}); !errors.Is(err, errLong) {
		t.Errorf("a request that is too long: %v", err)
	}
	r.must(Request{Op: OpStatus})
}

// TestSilentClients: hundreds that say nothing, at either socket, keep nobody from an answer.
func TestSilentClients(t *testing.T) {
	r := start(t, newBroker(), nil)
	for range maxCalls + 44 {
		r.dial(SSHSocket(r.socket))
	}
	began := time.Now()
	r.must(wantDev(OpCredentials))
	if took := time.Since(began); took > readTime {
		t.Errorf("after %s", took)
	}
	for range maxCalls + 44 {
		r.dial(r.socket)
	}
	r.must(wantDev(OpCredentials)) // when those before have had their time
}

// TestNoDescriptors: an agent outlives a moment in which it can open nothing.
func TestNoDescriptors(t *testing.T) {
	r := start(t, newBroker(), nil)
	r.must(Request{Op: OpStatus})
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = min(limit.Cur, 256)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var all []*os.File
	relief := sync.OnceFunc(func() {
		for _, f := range all {
			_ = f.Close()
		}
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	})
	defer relief()
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		all = append(all, f)
	}
	_ = all[0].Close()
	conn := r.dial(r.socket) // takes the last one
	_, _ = io.WriteString(conn, `{"v":1,"op":"status"}`+"\n")
	_ = conn.SetReadDeadline(time.Now().Add(acceptPause / 2))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("there were descriptors left, or the agent has ended: %d bytes, %v", n, err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	relief()
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, StateEmpty) {
		t.Errorf("%q, %v", line, err)
	}
}

// TestVersions: an agent of another version can be told apart, and stopped.
func TestVersions(t *testing.T) {
	r := start(t, newBroker(), nil)
	conn := r.dial(r.socket)
	_, _ = io.WriteString(conn, `{"v":99,"op":"stop"}`+"\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || strings.Contains(line, "problem") {
		t.Errorf("%s, %v", line, err)
	}
	r.ends()
	for _, op := range []string{OpStatus, OpCredentials, OpStop} {
		_, err := understand([]byte(`{"v":2,"problem":{"kind":"invalid"}}`), op)
		if got := errors.Is(err, ErrVersion); got != (op != OpStop) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// TestNextAgent: one agent is followed by the next at once, also where somebody still waits for an answer
// of the first.
func TestNextAgent(t *testing.T) {
	b := newBroker()
	b.hold = make(chan struct{})
	r := start(t, b, nil)
	waiting := make(chan api.Kind, 1)
	go func() { waiting <- r.kind(wantDev(OpCredentials)) }()
	for r.must(Request{Op: OpStatus}).Status.State != StateReady {
		time.Sleep(time.Millisecond) // between two looks
	}
	if err := Run(t.Context(), Config{Socket: r.socket, Logger: quiet()}, func() { t.Error("two agents at one socket") }); !errors.Is(err, ErrRunning) {
		t.Errorf("a second agent: %v", err)
	}
	r.must(Request{Op: OpStop})
	if _, err := r.call(Request{Op: OpStatus}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the stop: %v", err)
	}
	if kind := <-waiting; kind != api.KindUnavailable {
		t.Errorf("who was waiting is told %q", kind)
	}
	close(b.hold)
	startAt(t, r.socket, newBroker(), nil).must(wantDev(OpCredentials))
	r.ends()
}

// TestStop: idleness, and a socket that nobody can find, end an agent.
func TestStop(t *testing.T) {
	for name, c := range map[string]struct {
		idle time.Duration
		act  func(r *running) error
	}{
		"idle":              {300 * time.Millisecond, func(*running) error { return nil }},
		"idle by no time":   {-1, func(*running) error { return nil }},
		"idle at once":      {1, func(*running) error { return nil }},
		"the socket went":   {time.Second, func(r *running) error { return os.Remove(r.socket) }},
		"another took over": {time.Second, func(r *running) error { return errors.Join(os.Remove(r.socket), os.WriteFile(r.socket, nil, 0o600)) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, newBroker(), func(cfg *Config) { cfg.Idle = c.idle })
			if err := c.act(r); err != nil {
				t.Fatal(err)
			}
			r.ends()
		})
	}
}

// TestFolder: an agent answers in a folder of its user's alone, in which anything else is not taken for one.
func TestFolder(t *testing.T) {
	run := func(socket string) error {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		return Run(ctx, Config{Socket: socket, Logger: quiet()}, stop)
	}
	folders := map[string]func(dir string) error{
		"open to others": func(dir string) error { return os.Chmod(dir, 0o750) },
		"somebody's":     func(dir string) error { return os.Chown(dir, 65534, -1) },
		"a link": func(dir string) error {
			return errors.Join(os.Remove(dir), os.Symlink(t.TempDir(), dir))
		},
	}
	if os.Getuid() != 0 { // who cannot give a folder away has only his own
		delete(folders, "somebody's")
	}
	for name, make := range folders {
		dir := filepath.Join(t.TempDir(), "a")
		if err := errors.Join(os.Mkdir(dir, 0o700), make(dir)); err != nil {
			t.Fatal(err)
		}
		if err := run(filepath.Join(dir, "socket")); err == nil || !strings.Contains(err.Error(), "of yours alone") {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "a")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "socket"), nil, 0o600), run(filepath.Join(dir, "socket"))); err != nil {
		t.Errorf("in the place of a file that a dead one left: %v", err)
	}
}
