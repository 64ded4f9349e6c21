package bastion

import (
	"bytes"
	"context"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"sega/audit"
)

// relay passes a connection on until it is cut, and then holds both ends and moves nothing: the way a
// laptop vanishes.
type relay struct {
	net.Listener
	cut  atomic.Bool
	free chan struct{}
	end  func() // lets go of both ends
}

func newRelay(t testing.TB, to string) *relay {
	t.Helper()
	r := &relay{free: make(chan struct{})}
	r.end = sync.OnceFunc(func() { close(r.free) })
	r.Listener = service(t, "tcp", "127.0.0.1:0", func(near net.Conn) {
		far, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer far.Close()
		both := make(chan struct{}, 2)
		pass := func(to, from net.Conn) {
			buf := make([]byte, 32<<10)
			for {
				n, err := from.Read(buf)
				if r.cut.Load() {
					<-r.free
					err = io.EOF
				} else if n > 0 {
					_, _ = to.Write(buf[:n])
				}
				if err != nil {
					break
				}
			}
			_ = to.Close()
			_ = from.Close()
			both <- struct{}{}
		}
		go pass(far, near)
		pass(near, far)
		<-both
		<-both
	})
	t.Cleanup(r.end)
	return r
}

// TestVanishedSides cuts the way to the person, and to the host, without either end hearing of it: the
// session ends, and says which side it was.
func TestVanishedSides(t *testing.T) {
	for name, tc := range map[string]struct {
		host, jump bool
		want       string
	}{
		"the person":             {false, false, "the connection to the person was lost"},
		"the person, by ssh -J":  {false, true, "the connection to the person was lost"},
		"the host":               {true, false, "the host does not answer"},
		"the host, of an ssh -J": {true, true, "the host does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeControl(t)
			f.newGoHost(t, "web-1", "host-web-1", echo)
			var way *relay
			if tc.host {
				way = newRelay(t, f.inventory["web-1"].address)
				f.set(func() {
					h := f.inventory["web-1"]
					h.address = way.Addr().String()
					f.inventory["web-1"] = h
				})
			}
			w := start(t, f, func(c *Config) { c.KeepAlive = 3 * often }) // whoever is well has that long to answer
			if !tc.host {
				way = newRelay(t, w.addr)
				w.addr = way.Addr().String()
			}
			cred := f.credential(t)
			var c *ssh.Client
			if tc.jump {
				c = w.through(t, w.mustDial(t, "ada", cred.signer), cred)
			} else {
				c = w.direct(t)
			}
			s := newSession(t, c)
			in, err := s.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if err := s.Start("cat"); err != nil {
				t.Fatal(err)
			}
			way.cut.Store(true)
			defer way.end()
			end := f.only(t, kindEnd)
			if end.Outcome != string(audit.Failure) || !strings.Contains(end.Reason, tc.want) {
				t.Errorf("ended %s: %s", end.Outcome, end.Reason)
			}
			eventually(t, "nothing that lives", func() bool {
				return len(w.b.reg.matching(everybody)) == 0 || tc.host && tc.jump // the outer connection is well
			})
		})
	}
}

// TestRekey changes keys every few blocks in the middle of a load, as the client and as the bastion
// want it: every byte arrives.
func TestRekey(t *testing.T) {
	for name, tc := range map[string]struct {
		bastion uint64
		client  []string
	}{
		"the client":  {0, []string{"-o", "RekeyLimit=1M"}},
		"the bastion": {1 << 20, nil},
		"both":        {300_000, []string{"-o", "RekeyLimit=1M"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeControl(t)
			f.startSSHD(t, "web-1", "host-web-1")
			w := start(t, f, func(c *Config) { c.Rekey = tc.bastion })
			o := w.openssh(t, f.credential(t))
			data := random(t, 6<<20)
			args := append(append([]string{"-v", "-v"}, tc.client...), currentLogin(t)+"%web-1@bastion", "cat")
			ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
			defer cancel()
			cmd := o.command(ctx, append([]string{"-o", "LogLevel=DEBUG"}, args...)...)
			var out, errs bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(data), &out, &errs
			if err := cmd.Run(); err != nil || !bytes.Equal(out.Bytes(), data) {
				t.Fatalf("%v, %d bytes of %d", err, out.Len(), len(data))
			}
			if n := strings.Count(errs.String(), "SSH2_MSG_NEWKEYS received"); n < 5 {
				t.Errorf("keys were changed %d times", n-1)
			}
			end := f.only(t, kindEnd)
			if got := stream(w.frames(end.SessionID), 2); got != string(data) {
				t.Errorf("the recording has %d bytes", len(got))
			}
		})
	}
}

// TestBannerAndMOTD: the banner is for everybody, once, and before anybody is known; the MOTD for a shell
// on a terminal and for no program's output.
func TestBannerAndMOTD(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f, func(c *Config) {
		c.Banner, c.MOTD = "Authorised people only.\nNobody else.", "Changes need a ticket.\n"
	})
	const banner = "Authorised people only.\r\nNobody else.\r\n"
	o := w.openssh(t, f.credential(t))
	o.logAt("INFO") // at ERROR ssh shows no banner
	for name, form := range forms(currentLogin(t)) {
		got := o.run(nil, append(form, "echo out; echo err >&2")...)
		if got.stdout != "out\n" || strings.Contains(got.stderr, "ticket") || strings.Count(got.stderr, "Authorised people only.") != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	var shown []string
	stranger := w.dialConfig("stranger%web-1", newSigner(t))
	stranger.BannerCallback = func(message string) error { shown = append(shown, message); return nil }
	if _, err := ssh.Dial("tcp", w.addr, stranger); err == nil {
		t.Error("a stranger came in")
	}
	if len(shown) != 1 || shown[0] != banner {
		t.Errorf("a stranger sees %q", shown)
	}
	shell := exec.Command(requireTool(t, "script"), "-qec", strings.Join(o.command(context.Background(), "-tt", currentLogin(t)+"%web-1@bastion").Args, " "), "/dev/null")
	shell.Stdin = strings.NewReader("exit\n")
	out, err := shell.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Changes need a ticket.\r\n"+recordedLine+"\r\n") {
		t.Errorf("a shell shows %q, %v", out, err)
	}
}
