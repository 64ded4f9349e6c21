package bastion

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sega/audit"
	"sega/audit/recording"
	"sega/broker/api"
	"sega/cmd/segad/dev/freeport"
)

// everyForward is what a policy that permits all of it may permit.
var everyForward = api.HopForwards{Ports: true, Agent: true, X11: true}

// service serves each connection to a port of its own with serve, which need not close it.
func service(t testing.TB, network, address string, serve func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l
}

// reverse answers all that it is told, turned round, once it has heard the end.
func reverse(c net.Conn) {
	data, _ := io.ReadAll(c)
	for i, j := 0, len(data)-1; i < j; i, j = i+1, j-1 {
		data[i], data[j] = data[j], data[i]
	}
	_, _ = c.Write(data)
}

func reversed(data []byte) []byte {
	out := bytes.Clone(data)
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// exchange sends data and the end of it, and returns what comes back.
func exchange(t testing.TB, network, address string, data []byte) ([]byte, error) {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(data); err != nil {
		return nil, err
	}
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
	return io.ReadAll(c)
}

func random(t testing.TB, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	data[0] = 'x' // neither SSH nor TLS
	return data
}

func listening(network, address string) func() bool {
	return func() bool {
		c, err := net.Dial(network, address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
}

// bytesOf joins what a stream of a channel holds.
func bytesOf(frames []recording.Frame, channel uint32, s recording.Stream) []byte {
	var out []byte
	for _, f := range frames {
		if f.Channel == channel && f.Stream == s {
			out = append(out, f.Data...)
		}
	}
	return out
}

func closes(t testing.TB, f *fakeControl) []forwardDetail {
	t.Helper()
	var out []forwardDetail
	for _, r := range f.find(kindForwardClose) {
		var d forwardDetail
		if err := json.Unmarshal(r.Details, &d); err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

// TestForwardsOfOpenSSH carries -L, -D and -R, of ports and sockets, between a stock ssh and a stock
// sshd: every byte arrives, and is in the recording in both directions.
func TestForwardsOfOpenSSH(t *testing.T) {
	f := newFakeControl(t)
	f.forwards = everyForward
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	dir := t.TempDir()
	tcp, unix := service(t, "tcp", "127.0.0.1:0", reverse), service(t, "unix", filepath.Join(dir, "s"), reverse)
	free := func() string { return freeport.Address(freeport.For(t)) }
	local := free()
	dynamic := free()
	remote := free()
	localSocket, remoteSocket := filepath.Join(dir, "l"), filepath.Join(dir, "r")
	for name, tc := range map[string]struct {
		option, network, address, kind string
		socks                          bool
	}{
		"-L to a port":     {"-L" + local + ":" + tcp.Addr().String(), "tcp", local, api.ChannelDirectTCP, false},
		"-L to a socket":   {"-L" + localSocket + ":" + unix.Addr().String(), "unix", localSocket, api.ChannelDirectSocket, false},
		"-D":               {"-D" + dynamic, "tcp", dynamic, api.ChannelDirectTCP, true},
		"-R from a port":   {"-R" + remote + ":" + tcp.Addr().String(), "tcp", remote, api.ChannelForwardedTCP, false},
		"-R from a socket": {"-R" + remoteSocket + ":" + unix.Addr().String(), "unix", remoteSocket, api.ChannelForwardedSocket, false},
	} {
		t.Run(name, func(t *testing.T) {
			f.set(func() { f.reports = nil })
			ssh := w.openssh(t, f.credential(t))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			cmd := ssh.command(ctx, "-N", "-o", "ExitOnForwardFailure=yes", tc.option, currentLogin(t)+"%web-1@bastion")
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			stop := sync.OnceFunc(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
			defer stop()
			eventually(t, "a listener", listening(tc.network, tc.address))
			sent := random(t, 300_000)
			got, err := exchangeSocks(t, tc.socks, tc.network, tc.address, tcp.Addr().(*net.TCPAddr), sent)
			if err != nil || !bytes.Equal(got, reversed(sent)) {
				t.Fatalf("%v, %d bytes: %s", err, len(got), errs.String())
			}
			eventually(t, "its close", func() bool {
				for _, d := range closes(t, f) {
					if d.Type == tc.kind && d.In+d.Out == int64(2*len(sent)) {
						return true
					}
				}
				return false
			})
			stop()
			end := f.only(t, kindEnd)
			frames := w.frames(end.SessionID)
			for _, d := range closes(t, f) {
				if d.Type != tc.kind || d.In+d.Out == 0 {
					continue // from waiting for the listener
				}
				in, out := bytesOf(frames, d.Channel, recording.StreamIn), bytesOf(frames, d.Channel, recording.StreamOut)
				if strings.HasPrefix(tc.kind, "forwarded") {
					in, out = out, in
				}
				if !bytes.Equal(in, sent) || !bytes.Equal(out, reversed(sent)) {
					t.Errorf("the recording has %d and %d bytes", len(in), len(out))
				}
			}
			opened := f.find(kindForward)
			if len(opened) == 0 || opened[len(opened)-1].Outcome != string(audit.Success) {
				t.Errorf("events %+v", opened)
			}
		})
	}
}

// exchangeSocks is exchange, through a SOCKS proxy where there is one.
func exchangeSocks(t *testing.T, socks bool, network, address string, to *net.TCPAddr, data []byte) ([]byte, error) {
	t.Helper()
	if !socks {
		return exchange(t, network, address, data)
	}
	c, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	hello := append([]byte{5, 1, 0, 5, 1, 0, 1}, to.IP.To4()...)
	if _, err := c.Write(append(hello, byte(to.Port>>8), byte(to.Port))); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c, make([]byte, 12)); err != nil {
		return nil, err
	}
	if _, err := c.Write(data); err != nil {
		return nil, err
	}
	_ = c.(*net.TCPConn).CloseWrite()
	return io.ReadAll(c)
}

// TestForwardsAreRefused: by the broker, by a policy that can never permit them, and by one that does
// not answer. The session goes on.
func TestForwardsAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		forwards api.HopForwards
		decide   func(api.ChannelRequest) (api.ChannelGrant, error)
		says     string
		asked    bool
	}{
		"never permitted": {api.HopForwards{}, nil, "policy permits no forwarding", false},
		"refused": {everyForward, func(r api.ChannelRequest) (api.ChannelGrant, error) {
			return api.ChannelGrant{Allow: r.Type == api.ChannelExec, Reason: "forwards to the sshd of a host are refused", Hint: "sega ssh HOST"}, nil
		}, "sshd of a host", true},
		"not answered": {everyForward, func(r api.ChannelRequest) (api.ChannelGrant, error) {
			if r.Type == api.ChannelExec {
				return api.ChannelGrant{Allow: true}, nil
			}
			return api.ChannelGrant{}, errFakeDown
		}, "the broker did not log it", true},
		"revoked": {everyForward, func(r api.ChannelRequest) (api.ChannelGrant, error) {
			if r.Type == api.ChannelExec {
				return api.ChannelGrant{Allow: true}, nil
			}
			return api.ChannelGrant{}, api.Errorf(api.KindRevoked, "access was revoked")
		}, "access was revoked", true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			f.forwards, f.onChannel = tc.forwards, tc.decide
			touched := make(chan string, 8)
			h := f.newGoHost(t, "web-1", "host-web-1", echo)
			h.offered = func(nc ssh.NewChannel) bool {
				if nc.ChannelType() != "session" {
					touched <- nc.ChannelType()
				}
				return false
			}
			h.global = func(r *ssh.Request) (bool, []byte) { touched <- r.Type; return true, nil }
			w := start(t, f)
			c := w.direct(t)
			for kind, payload := range map[string][]byte{
				api.ChannelDirectTCP:    ssh.Marshal(directTCPIP{"127.0.0.1", 22, "127.0.0.1", 1}),
				api.ChannelDirectSocket: ssh.Marshal(directSocket{Path: "/x"}),
			} {
				_, _, err := c.OpenChannel(kind, payload)
				refused, ok := err.(*ssh.OpenChannelError)
				if !ok || refused.Reason != ssh.Prohibited || !strings.Contains(refused.Message, tc.says) {
					t.Errorf("%s: %v", kind, err)
				}
			}
			for kind, payload := range map[string][]byte{
				api.ChannelListenTCP: ssh.Marshal(listenTCP{"", 0}), api.ChannelListenSocket: ssh.Marshal(nameRequest{"/x"}),
				"cancel-tcpip-forward": ssh.Marshal(listenTCP{"", 80}),
			} {
				if ok, _, err := c.SendRequest(kind, true, payload); ok || err != nil {
					t.Errorf("%s: %v, %v", kind, ok, err)
				}
			}
			s := newSession(t, c)
			for kind, payload := range map[string][]byte{api.ChannelAgentRequest: nil, api.ChannelX11Request: ssh.Marshal(x11Request{false, "MIT-MAGIC-COOKIE-1", "00", 0})} {
				if ok, err := s.SendRequest(kind, true, payload); ok || err != nil {
					t.Errorf("%s: %v, %v", kind, ok, err)
				}
			}
			if err := s.Run("true"); err != nil {
				t.Errorf("the session has ended with the forward: %v", err)
			}
			if len(touched) > 0 {
				t.Errorf("the host saw %s", <-touched)
			}
			_ = c.Close()
			f.only(t, kindEnd)
			for _, r := range f.find(kindForward) {
				if r.Outcome != string(audit.Denied) {
					t.Errorf("event %+v", r)
				}
			}
			if got := len(f.find(kindForward)); (got == 0) != (name == "not answered" || name == "revoked") {
				t.Errorf("%d events", got)
			}
		})
	}
}

// TestHostOpensWhatNobodyAskedFor has the host reach for the person's side (a host may be taken over).
func TestHostOpensWhatNobodyAskedFor(t *testing.T) {
	f := newFakeControl(t)
	f.forwards = everyForward
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	h.global = func(*ssh.Request) (bool, []byte) { return true, nil }
	w := start(t, f)
	c := w.direct(t)
	opened := make(chan string, 64)
	for _, kind := range []string{api.ChannelForwardedTCP, api.ChannelForwardedSocket, api.ChannelAgent, api.ChannelX11, "session", api.ChannelDirectTCP, "tun@openssh.com"} {
		chans := c.HandleChannelOpen(kind)
		go func() {
			for nc := range chans {
				opened <- nc.ChannelType()
				if ch, reqs, err := nc.Accept(); err == nil {
					go ssh.DiscardRequests(reqs)
					_ = ch.Close()
				}
			}
		}()
	}
	if ok, _, err := c.SendRequest(api.ChannelListenTCP, true, ssh.Marshal(listenTCP{"localhost", 8080})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	s := newSession(t, c)
	if err := s.Run("true"); err != nil {
		t.Fatal(err)
	}
	x11 := ssh.Marshal(x11Open{"127.0.0.1", 1})
	try := func(kind string, payload []byte) error {
		ch, reqs, err := h.conn().OpenChannel(kind, payload)
		if err == nil {
			go ssh.DiscardRequests(reqs)
			_ = ch.Close()
		}
		return err
	}
	for name, tc := range map[string]struct {
		kind    string
		payload []byte
	}{
		"another port":       {api.ChannelForwardedTCP, ssh.Marshal(directTCPIP{"localhost", 8081, "127.0.0.1", 1})},
		"another address":    {api.ChannelForwardedTCP, ssh.Marshal(directTCPIP{"0.0.0.0", 8080, "127.0.0.1", 1})},
		"more than asked":    {api.ChannelForwardedTCP, append(ssh.Marshal(directTCPIP{"localhost", 8080, "127.0.0.1", 1}), 0)},
		"a socket":           {api.ChannelForwardedSocket, ssh.Marshal(forwardedSocket{Path: "/x"})},
		"the agent":          {api.ChannelAgent, nil},
		"the display":        {api.ChannelX11, x11},
		"a session":          {"session", nil},
		"a direct port":      {api.ChannelDirectTCP, ssh.Marshal(directTCPIP{"10.0.0.1", 80, "", 0})},
		"something else":     {"tun@openssh.com", nil},
		"nothing that is it": {api.ChannelForwardedTCP, nil},
	} {
		if err := try(tc.kind, tc.payload); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if len(opened) > 0 {
		t.Errorf("the person's side saw %s", <-opened)
	}
	if err := try(api.ChannelForwardedTCP, ssh.Marshal(directTCPIP{"localhost", 8080, "127.0.0.1", 1})); err != nil {
		t.Errorf("what was asked for: %v", err)
	}
	if ok, _, err := c.SendRequest("cancel-tcpip-forward", true, ssh.Marshal(listenTCP{"localhost", 8080})); !ok || err != nil {
		t.Error(ok, err)
	}
	if err := try(api.ChannelForwardedTCP, ssh.Marshal(directTCPIP{"localhost", 8080, "127.0.0.1", 1})); err == nil {
		t.Error("it opens what was cancelled")
	}
}

// TestInnerSSHIsClosed hides an SSH connection in a forward: it ends before the keys are exchanged,
// unless policy lets it be. Either way the log says that it was there.
func TestInnerSSHIsClosed(t *testing.T) {
	const hello, answer = "SSH-2.0-client\r\n", "SSH-2.0-server\r\n"
	for name, tc := range map[string]struct {
		in, out string // in pieces, by |
		opaque  bool
		want    string // what the log calls it
		passes  bool
	}{
		"client first":           {hello, "", false, opaqueSSH, false},
		"server first":           {"", answer, false, opaqueSSH, false},
		"in single bytes":        {"S|S|H|-|2|.|0|-|x\n", "", false, opaqueSSH, false},
		"behind a greeting":      {"", "welcome\r\n" + answer, false, opaqueSSH, false},
		"behind CONNECT":         {"", "HTTP/1.1 200 OK\r\n\r\n" + answer, false, opaqueSSH, false},
		"behind SOCKS, both":     {"\x05\x01\x00" + hello, "\x05\x00" + answer, false, opaqueSSH, false},
		"version 1.99":           {"", "SSH-1.99-old\n", false, opaqueSSH, false},
		"where policy permits":   {hello, answer, true, opaqueSSH, true},
		"TLS":                    {"\x16\x03\x01\x00\x05", "\x16\x03\x03", false, opaqueTLS, true},
		"text that speaks of it": {"GET / HTTP/1.1\r\n", "<p>servers say SSH-2.0-x first</p>", false, "", true},
		"plain":                  {"select 1", "1", false, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			f.forwards = everyForward
			f.onChannel = func(api.ChannelRequest) (api.ChannelGrant, error) {
				return api.ChannelGrant{Allow: true, Opaque: tc.opaque}, nil
			}
			arrived := make(chan string, 1)
			h := f.newGoHost(t, "web-1", "host-web-1", echo)
			h.offered = func(nc ssh.NewChannel) bool {
				if nc.ChannelType() != api.ChannelDirectTCP {
					return false
				}
				ch, reqs, err := nc.Accept()
				if err != nil {
					return true
				}
				h.wg.Go(func() { ssh.DiscardRequests(reqs) })
				h.wg.Go(func() {
					for piece := range strings.SplitSeq(tc.out, "|") {
						_, _ = ch.Write([]byte(piece))
					}
					got, _ := io.ReadAll(ch)
					arrived <- string(got)
					_ = ch.Close()
				})
				return true
			}
			w := start(t, f)
			c := w.direct(t)
			ch, reqs, err := c.OpenChannel(api.ChannelDirectTCP, ssh.Marshal(directTCPIP{"db", 22, "127.0.0.1", 1}))
			if err != nil {
				t.Fatal(err)
			}
			go ssh.DiscardRequests(reqs)
			for piece := range strings.SplitSeq(tc.in, "|") {
				_, _ = ch.Write([]byte(piece))
			}
			back := make([]byte, len(tc.out))
			_, err = io.ReadFull(ch, back)
			if tc.passes {
				_ = ch.CloseWrite()
			}
			got := <-arrived
			if both := err == nil && got == strings.ReplaceAll(tc.in, "|", ""); both != tc.passes {
				t.Errorf("the host got %q, and back came %q: %v", got, back, err)
			}
			r := f.only(t, kindForwardClose)
			var d forwardDetail
			decode(t, r.Details, &d)
			if d.Opaque != tc.want || (r.Outcome == string(audit.Denied)) == tc.passes {
				t.Errorf("%+v %+v", r, d)
			}
			_ = c.Close()
			end := f.only(t, kindEnd)
			var e endDetail
			decode(t, end.Details, &e)
			if (e.Opaque == 1) != (tc.want != "") {
				t.Errorf("session.end says %+v", e)
			}
		})
	}
}

// TestAgentAndDisplay lends both to a stock sshd's programs, and to nobody who was not lent them.
func TestAgentAndDisplay(t *testing.T) {
	requireTool(t, "ssh-add")
	f := newFakeControl(t)
	f.forwards = everyForward
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	dir := t.TempDir()
	keyring := agent.NewKeyring()
	signer := f.credential(t)
	if err := keyring.Add(agent.AddedKey{PrivateKey: signer.key, Comment: "lent"}); err != nil {
		t.Fatal(err)
	}
	socket := service(t, "unix", filepath.Join(dir, "agent"), func(c net.Conn) { _ = agent.ServeAgent(keyring, c) })
	cookie := make(chan []byte, 1)
	display := service(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		setup := make([]byte, 12)
		if _, err := io.ReadFull(c, setup); err != nil {
			return
		}
		name, data := int(setup[7])<<8|int(setup[6]), int(setup[9])<<8|int(setup[8])
		rest := make([]byte, (name+3)/4*4+(data+3)/4*4)
		if _, err := io.ReadFull(c, rest); err == nil {
			cookie <- rest[(name+3)/4*4:]
		}
		_, _ = c.Write([]byte("shown"))
	})
	number := display.Addr().(*net.TCPAddr).Port - 6000
	if number < 0 {
		t.Skip("skipped: the port of the display is below 6000")
	}
	real := "0123456789abcdef0123456789abcdef"
	if out, err := exec.Command(requireTool(t, "xauth"), "-f", filepath.Join(dir, "xauth"), "add", fmt.Sprintf("127.0.0.1:%d", number), "MIT-MAGIC-COOKIE-1", real).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	client := w.openssh(t, signer)
	run := func(args ...string) result {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		defer cancel()
		cmd := client.command(ctx, append(args, currentLogin(t)+"%web-1@bastion")...)
		return outcome(t, cmd, "SSH_AUTH_SOCK="+socket.Addr().String(), fmt.Sprintf("DISPLAY=127.0.0.1:%d", number), "XAUTHORITY="+filepath.Join(dir, "xauth"), "HOME="+dir)
	}
	got := run("-o", "IdentityAgent=SSH_AUTH_SOCK", "-o", "ForwardAgent=yes", "-o", "RemoteCommand=ssh-add -l")
	if got.code != 0 || !strings.Contains(got.stdout, "lent") {
		t.Errorf("the agent: %+v", got)
	}
	// What an X client sends first: little-endian, version 11.0, and the cookie of the host's xauth.
	show := `c=$(xauth list "$DISPLAY" | head -1 | sed 's/.* //'); port=$((6000 + $(echo "$DISPLAY" | sed 's/.*:\([0-9]*\).*/\1/')));
exec 3<>/dev/tcp/127.0.0.1/$port; printf 'l\0\13\0\0\0\22\0\20\0\0\0MIT-MAGIC-COOKIE-1\0\0' >&3; printf "$(echo "$c" | sed 's/../\\x&/g')" >&3; echo "$c" >&2; cat <&3`
	got = run("-Y", "-o", "RemoteCommand=bash -c '"+strings.ReplaceAll(show, "'", `'\''`)+"'")
	if got.code != 0 || got.stdout != "shown" {
		t.Fatalf("the display: %+v", got)
	}
	if seen := fmt.Sprintf("%x", <-cookie); seen != real {
		t.Errorf("the display was shown %s", seen)
	}
	if strings.Contains(got.stderr, real) {
		t.Error("the host learns the display's cookie")
	}
	var kinds []string
	for _, r := range f.find(kindForward) {
		var ask api.ChannelRequest
		decode(t, r.Details, &ask)
		kinds = append(kinds, ask.Type)
	}
	if diff := cmp.Diff([]string{api.ChannelAgentRequest, api.ChannelAgent, api.ChannelX11Request, api.ChannelX11}, kinds); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// outcome runs a command with more in its environment.
func outcome(t testing.TB, cmd *exec.Cmd, env ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, append(os.Environ(), env...)
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %s", err, errs.String())
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// TestForwardsAreBounded opens more than a session may carry, from both sides.
func TestForwardsAreBounded(t *testing.T) {
	f := newFakeControl(t)
	f.forwards = everyForward
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	h.offered = func(nc ssh.NewChannel) bool {
		_, reqs, err := nc.Accept()
		if err == nil {
			h.wg.Go(func() { ssh.DiscardRequests(reqs) })
		}
		return true
	}
	w := start(t, f)
	w.b.calls = newFreeMeter()
	c := w.direct(t)
	payload := ssh.Marshal(directTCPIP{"db", 5432, "127.0.0.1", 1})
	var first ssh.Channel
	for i := range maxForwards {
		ch, reqs, err := c.OpenChannel(api.ChannelDirectTCP, payload)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		go ssh.DiscardRequests(reqs)
		if i == 0 {
			first = ch
		}
	}
	if _, _, err := c.OpenChannel(api.ChannelDirectTCP, payload); err == nil || !strings.Contains(err.Error(), "as many forwarded connections") {
		t.Errorf("one more: %v", err)
	}
	_ = first.Close()
	eventually(t, "a free place", func() bool {
		_, reqs, err := c.OpenChannel(api.ChannelDirectTCP, payload)
		if err == nil {
			go ssh.DiscardRequests(reqs)
		}
		return err == nil
	})
}

// TestForwardIsCut: a revocation ends what a session carries besides its programs, the host's side first.
func TestForwardIsCut(t *testing.T) {
	f := newFakeControl(t)
	f.forwards = everyForward
	gone := make(chan struct{})
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	h.offered = func(nc ssh.NewChannel) bool {
		ch, reqs, err := nc.Accept()
		if err == nil {
			h.wg.Go(func() { ssh.DiscardRequests(reqs) })
			h.wg.Go(func() { _, _ = io.Copy(io.Discard, ch); close(gone) })
		}
		return true
	}
	w := start(t, f)
	c := w.direct(t)
	ch, reqs, err := c.OpenChannel(api.ChannelDirectTCP, ssh.Marshal(directTCPIP{"db", 5432, "127.0.0.1", 1}))
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	if _, err := ch.Write([]byte("begun")); err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.revoked = append(f.revoked, api.Revocation{Index: 1, LoginID: loginID, Reason: "stolen"}) })
	<-gone
	if r := f.only(t, kindForwardClose); r.Outcome != string(audit.Revoked) || !strings.Contains(r.Reason, "stolen") {
		t.Errorf("%+v", r)
	}
	if _, err := io.ReadAll(ch); err == nil {
		if _, err := ch.Write([]byte("x")); err == nil {
			t.Error("the forward lives on")
		}
	}
}

// TestTerminalReadsWhatIsNotForwarded: ssh says nothing of an agent that is not forwarded, and no reason for the rest.
func TestTerminalReadsWhatIsNotForwarded(t *testing.T) {
	asked := []string{"-A", "-o", "IdentityAgent=SSH_AUTH_SOCK", "-Y"}
	for name, c := range map[string]struct {
		forwards api.HopForwards
		decide   func(api.ChannelRequest) (api.ChannelGrant, error)
		want     []string
	}{
		"policy never permits it": {want: []string{"sega: policy permits no X11 forwarding here", "sega: policy permits no agent forwarding here"}},
		"the broker refuses it": {forwards: everyForward, decide: func(r api.ChannelRequest) (api.ChannelGrant, error) {
			return api.ChannelGrant{Allow: r.Type == api.ChannelShell, Reason: "not " + r.Type, Hint: "ask for it"}, nil
		}, want: []string{"sega: not x11-req", "sega: ask for it", "sega: not auth-agent-req@openssh.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			f.forwards, f.onChannel = c.forwards, c.decide
			f.startSSHD(t, "web-1", "host-web-1")
			w := start(t, f)
			socket := service(t, "unix", filepath.Join(t.TempDir(), "agent"), func(c net.Conn) { _ = agent.ServeAgent(agent.NewKeyring(), c) })
			t.Setenv("SSH_AUTH_SOCK", socket.Addr().String())
			t.Setenv("DISPLAY", "127.0.0.1:9")
			t.Setenv("HOME", t.TempDir())
			term := w.openssh(t, f.credential(t)).terminal(append(asked, currentLogin(t)+"%web-1@bastion")...)
			got := term.expect(recordedLine)
			if i := strings.Index(got, "sega: "); i < 0 || got[i:] != strings.Join(append(c.want, recordedLine), "\r\n") {
				t.Errorf("the terminal shows %q", got)
			}
		})
	}
}

// TestTerminalReadsOfRemoteForwards: the answer to -R carries no reason, so the next terminal does.
func TestTerminalReadsOfRemoteForwards(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	c := start(t, f).direct(t)
	if ok, _, err := c.SendRequest(api.ChannelListenTCP, true, ssh.Marshal(listenTCP{"127.0.0.1", 7})); ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, want := range []string{"sega: policy permits no remote forwarding here\r\n" + recordedLine + "\r\n", recordedLine + "\r\n"} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		var told bytes.Buffer
		s.Stderr = &told
		s.Stdin = strings.NewReader("exit\n")
		if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Shell(); err != nil {
			t.Fatal(err)
		}
		_ = s.Wait()
		if diff := cmp.Diff(want, told.String()); diff != "" {
			t.Errorf("the terminal is told (-want +got):\n%s", diff)
		}
	}
}
