package bastion

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

// TestNoRawPort asks for ports behind the bastion. Nothing may connect to the listener, and what
// ssh -J may name is answered by the bastion itself.
func TestNoRawPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	touched := make(chan struct{}, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			touched <- struct{}{}
			_ = c.Close()
		}
	}()
	f := newFakeControl(t)
	w := start(t, f)
	f.set(func() { f.inventory["web-1"] = testHost{address: l.Addr().String(), hostID: "host-web-1"} })
	c := f.credential(t)
	for _, addr := range []string{l.Addr().String(), "web-1:80", "127.0.0.1:80", bastionName + ":22"} {
		if _, err := w.jump(t, c, addr); err == nil {
			t.Errorf("%s was opened", addr)
		}
	}
	conn, err := w.jump(t, c, "web-1:22")
	if err != nil {
		t.Fatal(err)
	}
	banner := make([]byte, len(serverVersion))
	if _, err := io.ReadFull(conn, banner); err != nil || string(banner) != serverVersion {
		t.Errorf("answered by %q, %v", banner, err)
	}
	_ = conn.Close()
	_ = l.Close()
	<-done
	if len(touched) != 0 {
		t.Error("the raw port was reached")
	}
}

// TestEverythingElseIsRefused opens what a bastion could be abused for, on both kinds of connection.
func TestEverythingElseIsRefused(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	for _, user := range []string{"ada", "root%web-1"} {
		c := w.mustDial(t, user, f.credential(t).signer)
		for kind, payload := range map[string][]byte{
			"x11": {}, "tun@openssh.com": {}, "direct-streamlocal@openssh.com": ssh.Marshal(struct {
				Path, A string
				B       uint32
			}{"/run/docker.sock", "", 0}), "auth-agent@openssh.com": {},
		} {
			if _, _, err := c.OpenChannel(kind, payload); err == nil {
				t.Errorf("%s: %s was opened", user, kind)
			}
		}
		if ok, _, err := c.SendRequest("tcpip-forward", true, ssh.Marshal(struct {
			A string
			P uint32
		}{"0.0.0.0", 0})); ok || err != nil {
			t.Errorf("%s: tcpip-forward: %v, %v", user, ok, err)
		}
	}
	s := newSession(t, w.direct(t))
	for _, kind := range []string{"x11-req", "auth-agent-req@openssh.com", "unknown@example.org"} {
		if ok, err := s.SendRequest(kind, true, nil); ok || err != nil {
			t.Errorf("%s: %v, %v", kind, ok, err)
		}
	}
	outer := w.mustDial(t, "ada", f.credential(t).signer)
	if _, err := outer.NewSession(); err == nil || !strings.Contains(err.Error(), "ssh -J "+bastionName) {
		t.Errorf("a session on the bastion itself: %v", err)
	}
}

func TestHostMustProveItself(t *testing.T) {
	pinned := newSigner(t)
	for name, tc := range map[string]struct {
		identity func(*fakeControl) ssh.Signer
		keys     []string
		ok       bool
	}{
		"certificate":              {func(f *fakeControl) ssh.Signer { return f.hostSigner(t, f.hosts, "host-web-1") }, nil, true},
		"pinned key":               {func(*fakeControl) ssh.Signer { return pinned }, []string{sshca.MarshalLine(pinned.PublicKey())}, true},
		"another host's":           {func(f *fakeControl) ssh.Signer { return f.hostSigner(t, f.hosts, "host-web-2") }, nil, false},
		"front CA's (a mask)":      {func(f *fakeControl) ssh.Signer { return f.hostSigner(t, frontAsHost(f), "host-web-1") }, nil, false},
		"plain key":                {func(*fakeControl) ssh.Signer { return newSigner(t) }, nil, false},
		"another plain key":        {func(*fakeControl) ssh.Signer { return newSigner(t) }, []string{sshca.MarshalLine(pinned.PublicKey())}, false},
		"foreign CA despite a pin": {func(f *fakeControl) ssh.Signer { return f.hostSigner(t, newAuthority(t, sshca.Host), "host-web-1") }, []string{sshca.MarshalLine(pinned.PublicKey())}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			h := f.newGoHost(t, "web-1", "host-web-1", echo, tc.identity(f))
			f.set(func() {
				host := f.inventory["web-1"]
				host.keys = tc.keys
				f.inventory["web-1"] = host
			})
			w := start(t, f)
			s := newSession(t, w.direct(t))
			var errs strings.Builder
			s.Stderr = &errs
			err := s.Run("true")
			if (err == nil) != tc.ok {
				t.Fatalf("got %v, %q", err, errs.String())
			}
			if tc.ok {
				return
			}
			if !strings.HasPrefix(errs.String(), "sega: "+errHostKey.Error()+": ") || len(h.logins()) != 0 {
				t.Errorf("told %q; the host saw %v", errs.String(), h.logins())
			}
			if r := f.only(t, kindStart); r.Outcome != "failure" {
				t.Errorf("reported %+v", r)
			}
		})
	}
}

// TestWhyAHostIsNotReached: what the host has is said, what this bastion takes is not, and only a host key is the security
// team's matter.
func TestWhyAHostIsNotReached(t *testing.T) {
	for name, tc := range map[string]struct {
		what, want string
		key        bool
	}{
		"no certificate": {"host key", `the host's key is not the one it must have: it shows no certificate, and no pinned key, but has ["theirs"]`, true},
		"old ciphers":    {"client to server cipher", `the host's sshd offers no client to server cipher that this bastion takes: ["theirs"]`, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := dialError(t.Context(), fmt.Errorf("ssh: handshake failed: %w", &ssh.AlgorithmNegotiationError{
				What: tc.what, RequestedAlgorithms: []string{"theirs"}, SupportedAlgorithms: []string{"ours"}}))
			if err.Error() != tc.want || errors.Is(err, errHostKey) != tc.key {
				t.Errorf("%v", err)
			}
		})
	}
}

// frontAsHost signs host certificates with the front CA's key.
func frontAsHost(f *fakeControl) *authority {
	return &authority{Signer: f.front.Signer, profile: sshca.Host}
}

// TestHopCertificateOpensOneHostAlone gives the bastion a certificate for web-1 and the address of web-2.
func TestHopCertificateOpensOneHostAlone(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	two := f.startSSHD(t, "web-2", "host-web-2")
	w := start(t, f)
	f.onHop = func(h *api.Hop) error { h.Address, h.HostID = two.address, two.hostID; return nil }
	got := w.openssh(t, f.credential(t)).run(nil, currentLogin(t)+"%web-1@bastion", "echo in")
	if got.code != exitRefused || got.stdout != "" || !strings.Contains(got.stderr, errHopAuth.Error()) {
		t.Errorf("got %+v", got)
	}
}

// failingFile is a disk that is full after some bytes.
type failingFile struct {
	SpoolFile
	left int
}

func (f *failingFile) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("no space left on device")
	}
	return f.SpoolFile.Write(p)
}

// TestNoRecordingNoSession fills the disk at the header, and in mid-session.
func TestNoRecordingNoSession(t *testing.T) {
	for name, tc := range map[string]struct {
		room    int
		kind    string
		reached bool
		told    string
	}{
		"at once": {0, kindStart, false, "cannot be recorded"}, "in mid-session": {8 << 10, kindEnd, true, "can no longer be recorded"}} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			h := f.newGoHost(t, "web-1", "host-web-1", echo)
			w := start(t, f, func(c *Config) {
				c.Spool = func(s SpoolFile) SpoolFile { return &failingFile{s, tc.room} }
			})
			s := newSession(t, w.direct(t))
			var out, errs lockedBuffer
			s.Stdout, s.Stderr = &out, &errs
			s.Stdin = bytes.NewReader(make([]byte, 1<<20))
			if err := s.Run("echo"); err == nil {
				t.Error("the session ended well")
			}
			if !strings.Contains(errs.String(), tc.told) {
				t.Errorf("told %q", errs.String())
			}
			if r := f.only(t, tc.kind); r.Outcome != "failure" {
				t.Errorf("reported %+v", r)
			}
			if reached := len(h.logins()) > 0; reached != tc.reached {
				t.Errorf("host reached: %v", reached)
			}
			if len(out.String()) > tc.room {
				t.Errorf("%d bytes came back, more than were recorded", len(out.String()))
			}
		})
	}
}

func TestBrokerSaysNo(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*fakeControl)
		told    []string
		kind    string // reported
	}{
		"denied": {func(f *fakeControl) {
			f.onHop = func(*api.Hop) error {
				return api.Errorf(api.KindDenied, "policy says no\x1b]0;x").WithHint("run `sega request`")
			}
		}, []string{"policy says no\\u001b]0;x", "run `sega request`"}, ""},
		"unreachable": {func(f *fakeControl) { f.onHop = func(*api.Hop) error { return errFakeDown } }, []string{errFakeDown.Error()}, kindRefuse},
		"session that has ended": {func(f *fakeControl) {
			f.onHop = func(h *api.Hop) error { h.NotAfter = time.Time{}; return nil }
		}, []string{"already ended"}, kindStart},
		"another key's certificate": {func(f *fakeControl) {
			f.onHop = func(h *api.Hop) error { h.Certificate = sshca.MarshalLine(f.credential(t).cert); return nil }
		}, []string{"hop certificate"}, kindStart},
		"session ID that is a path": {func(f *fakeControl) {
			f.onHop = func(h *api.Hop) error { h.SessionID = "../../etc/passwd"; return nil }
		}, []string{"session ID"}, kindStart},
		"start not logged": {func(f *fakeControl) {
			f.onReport = func(r api.Report) error {
				if r.Kind == kindStart && r.Outcome == "success" {
					return errFakeDown
				}
				return nil
			}
		}, []string{errStartUnreported.Error()}, kindEnd},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			ran := make(chan string, 4)
			f.newGoHost(t, "web-1", "host-web-1", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
				for r := range reqs {
					ran <- r.Type
					_ = r.Reply(true, nil)
				}
			})
			tc.prepare(f)
			w := start(t, f)
			s := newSession(t, w.direct(t))
			var errs strings.Builder
			s.Stderr = &errs
			if err := s.Run("true"); err == nil {
				t.Error("the command ran")
			}
			_ = s.Close()
			for _, want := range tc.told {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("told %q, want %q", errs.String(), want)
				}
			}
			if tc.kind != "" {
				f.only(t, tc.kind)
			}
			if len(ran) != 0 {
				t.Errorf("the host saw %q", <-ran)
			}
		})
	}
}

// TestUnloggedCommandDoesNotStart has a broker that fails between the start and the command.
func TestUnloggedCommandDoesNotStart(t *testing.T) {
	f := newFakeControl(t)
	f.onReport = func(r api.Report) error {
		if r.Kind == kindCommand {
			return errFakeDown
		}
		return nil
	}
	var ran atomic.Bool
	f.newGoHost(t, "web-1", "host-web-1", func(_ ssh.Channel, reqs <-chan *ssh.Request) {
		for r := range reqs {
			if r.Type == "exec" {
				ran.Store(true)
			}
			_ = r.Reply(true, nil)
		}
	})
	w := start(t, f)
	got := w.openssh(t, f.credential(t)).run(nil, "root%web-1@bastion", "true")
	if got.code != exitRefused || !strings.Contains(got.stderr, "did not log it") || ran.Load() {
		t.Errorf("got %+v, ran: %v", got, ran.Load())
	}
}

// TestHostGoneTells has a host that breaks the connection off.
func TestHostGoneTells(t *testing.T) {
	f := newFakeControl(t)
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	s := newSession(t, w.direct(t))
	_, _ = s.StdinPipe()
	var errs lockedBuffer
	s.Stderr = &errs
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	h.hangUp()
	_ = s.Wait()
	if !strings.Contains(errs.String(), "the host closed the connection") {
		t.Errorf("told %q", errs.String())
	}
	if r := f.only(t, kindEnd); r.Outcome != "failure" {
		t.Errorf("reported %+v", r)
	}
}

func TestMaskIsMadeOnceAndChecked(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	c := f.credential(t)
	for range 3 {
		conn, err := w.jump(t, c, "web-1:22")
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	f.mu.Lock()
	made := strings.Count(strings.Join(f.fronts, " "), "web-1")
	f.mu.Unlock()
	if made != 1 {
		t.Errorf("%d certificates for one host", made)
	}
	if _, err := w.b.masks.get(t.Context(), bastionName, nil); err == nil {
		t.Error("a mask of the bastion itself was made")
	}
	f.set(func() { f.frontLife = 2 * time.Minute }) // below the margin: never served from the cache
	for range 2 {
		if _, err := w.b.masks.get(t.Context(), "web-9", nil); err != nil {
			t.Fatal(err)
		}
	}
	f.mu.Lock()
	made = strings.Count(strings.Join(f.fronts, " "), "web-9")
	f.mu.Unlock()
	if made != 2 {
		t.Errorf("%d certificates for a host whose mask is about to expire, want 2", made)
	}
	f.set(func() { f.front = newAuthority(t, sshca.Front) }) // the bundle still names the old one
	f.set(func() { f.onFront = nil })
	if _, err := w.b.masks.get(t.Context(), "web-10", nil); err == nil {
		t.Error("a certificate of another CA was worn")
	}
}

// TestRefusedCommand has policy refuse one program of a session: it says why and ends, and what else the
// session does goes on.
func TestRefusedCommand(t *testing.T) {
	f := newFakeControl(t)
	f.onChannel = func(r api.ChannelRequest) (api.ChannelGrant, error) {
		switch r.Command {
		case "forbidden":
			return api.ChannelGrant{Reason: "connect is forbidden by policy \"no\"\x1b[2J", Hint: "ask \x07 somebody"}, nil
		case "revoked":
			return api.ChannelGrant{}, api.Errorf(api.KindRevoked, "access was revoked")
		}
		return api.ChannelGrant{Allow: true}, nil
	}
	ran := make(chan string, 8)
	f.newGoHost(t, "web-1", "host-web-1", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
		for r := range reqs {
			if r.Type == "exec" {
				ran <- string(r.Payload[4:])
			}
			_ = r.Reply(true, nil)
			if r.Type == "exec" {
				_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(exitStatus{0}))
				_ = ch.Close()
			}
		}
	})
	w := start(t, f)
	c := w.direct(t)
	for _, tc := range []struct {
		command, says string
		code          int
	}{
		{"first", "", 0},
		{"forbidden", "sega: connect is forbidden by policy \"no\"\\u001b[2J\r\nsega: ask \\u0007 somebody\r\n", exitRefused},
		{"revoked", "sega: access was revoked\r\n", exitRefused},
		{"last", "", 0},
	} {
		s := newSession(t, c)
		var stderr bytes.Buffer
		s.Stderr = &stderr
		err := s.Run(tc.command)
		code := 0
		if exit := (*ssh.ExitError)(nil); errors.As(err, &exit) {
			code = exit.ExitStatus()
		} else if err != nil {
			t.Fatalf("%s: %v", tc.command, err)
		}
		if code != tc.code || stderr.String() != tc.says {
			t.Errorf("%s: %d, %q", tc.command, code, stderr.String())
		}
	}
	close(ran)
	var all []string
	for command := range ran {
		all = append(all, command)
	}
	if diff := cmp.Diff([]string{"first", "last"}, all); diff != "" {
		t.Errorf("the host saw (-want +got):\n%s", diff)
	}
}
