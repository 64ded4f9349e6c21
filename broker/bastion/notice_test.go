package bastion

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
)

// terminalSession opens a shell under a terminal, whose output and error output one buffer takes.
func (w *world) terminalSession(t *testing.T) (in interface{ Write([]byte) (int, error) }, out *lockedBuffer) {
	t.Helper()
	s := newSession(t, w.direct(t))
	if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	out = &lockedBuffer{}
	s.Stdout, s.Stderr = out, out
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	return in, out
}

// TestNoticesOnTerminals: a terminal reads that its session is paused and goes on, unless a program has
// the whole screen; nothing of that is in the recording of what the host said.
func TestNoticesOnTerminals(t *testing.T) {
	for name, c := range map[string]struct {
		typed string
		told  bool
	}{"a shell": {"ls", true}, "an editor": {"\x1b[?1049hvi", false}, "after an editor": {"\x1b[?1049hvi\x1b[?1049l$", true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeControl(t)
			w := startLadder(t, f, ladderOf(api.OnDisk, api.Rung{Do: api.DoPause, Seconds: 60}))
			in, out := w.terminalSession(t)
			if _, err := in.Write([]byte(c.typed)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the echo", func() bool { return strings.Contains(out.String(), c.typed) })
			w.free.Store(1)
			eventually(t, "a pause", func() bool { return len(f.find(kindPause)) == 1 })
			w.free.Store(1000)
			eventually(t, "the session to go on", func() bool { return len(f.find(kindResume)) == 1 })
			if _, err := in.Write([]byte("end")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the echo", func() bool { return strings.Contains(out.String(), "end") })
			const paused, goes = "\r\nsega: paused: the disk of recordings is nearly full", "\r\nsega: the session goes on"
			if c.told {
				eventually(t, "the notices", func() bool { return strings.Contains(out.String(), paused) && strings.Contains(out.String(), goes) })
			} else if got := out.String(); strings.Contains(got, "sega: paused") || strings.Contains(got, goes) {
				t.Errorf("read %q", got)
			}
		})
	}
}

// TestNoticesAmidErrors: notices that come at once, and while the host writes to the same stream, arrive whole.
func TestNoticesAmidErrors(t *testing.T) {
	const notices, each = 2000, "0123456789"
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
		for r := range reqs {
			_ = r.Reply(true, nil)
			if r.Type == "shell" {
				break
			}
		}
		go ssh.DiscardRequests(reqs)
		for {
			if _, err := ch.Stderr().Write([]byte("e")); err != nil {
				return
			}
		}
	})
	w := start(t, f)
	_, out := w.terminalSession(t)
	eventually(t, "what the host says", func() bool { return strings.Contains(out.String(), "eee") })
	for range notices {
		for _, l := range w.b.reg.matching(everybody) {
			l.told(each)
		}
	}
	eventually(t, "all notices", func() bool { return strings.Count(out.String(), "\r\nsega: "+each+"\r\n") == notices })
}

// TestEndIsAnnounced: terminals are told before a session's own end and before its idle limit; what moves
// puts the latter off.
func TestEndIsAnnounced(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fakeControl)
		want   []string
	}{
		"its end": {func(f *fakeControl) { f.notAfter = 2 * time.Second }, []string{"sega: this session ends in 1s; connect again", "sega: session ended: its time is up"}},
		"idle":    {func(f *fakeControl) { f.idle = 2 }, []string{"sega: nothing has moved for 1s; this session ends in 1s", "sega: session ended: idle for 2 s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeControl(t)
			f.newGoHost(t, "web-1", "host-web-1", echo)
			c.change(f)
			w := start(t, f)
			_, out := w.terminalSession(t)
			eventually(t, "both lines", func() bool {
				_, rest, found := strings.Cut(out.String(), c.want[0])
				return found && strings.Contains(rest, c.want[1])
			})
		})
	}
}
