package bastion

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
)

// often leaves a client four times as long to answer, on a busy machine.
const often = 250 * time.Millisecond

// TestLostClient: who says nothing any more loses the connection, with its reason in the log; the process may live.
func TestLostClient(t *testing.T) {
	for form, args := range forms(currentLogin(t)) {
		if form == "plus" {
			continue // as percent
		}
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			f := newFakeControl(t)
			f.startSSHD(t, "web-1", "host-web-1")
			w := start(t, f, func(c *Config) { c.KeepAlive = often })
			o := w.openssh(t, f.credential(t))
			term := o.terminal(args...)
			term.expect(recordedLine)
			// Many intervals, in which the client answers and nothing else happens.
			time.Sleep(2 * silences * often)
			term.typed("echo st''ill here\n")
			term.expect("still here\r\n")
			group := term.cmd.Process.Pid // of the terminal's session: the client of the jump is in it
			if err := syscall.Kill(-group, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = syscall.Kill(-group, syscall.SIGKILL) }()
			end := f.only(t, kindEnd)
			if end.Outcome != string(audit.Failure) || end.Reason != clientLost().reason {
				t.Errorf("reported %+v", end)
			}
			eventually(t, "an empty registry", func() bool { w.b.reg.mu.Lock(); defer w.b.reg.mu.Unlock(); return len(w.b.reg.live) == 0 })
		})
	}
}

// TestLull: four intervals without a byte are too many, and one that the bastion itself has slept through is one.
func TestLull(t *testing.T) {
	type look struct{ at, silent time.Duration }
	for name, tc := range map[string]struct {
		looks []look
		lost  int // which look finds it lost; -1: none
	}{
		"gone":                {[]look{{1, 1}, {2, 2}, {3, 3}, {4, 4}}, 3},
		"gone after a byte":   {[]look{{10, 4}, {20, 14}, {30, 24}, {40, 34}, {50, 44}}, 4},
		"a byte in time":      {[]look{{10, 10}, {20, 20}, {30, 30}, {40, 9}, {50, 19}, {60, 29}, {70, 39}}, -1},
		"a byte each time":    {[]look{{10, 9}, {20, 9}, {30, 9}, {40, 9}, {50, 9}}, -1},
		"late answers":        {[]look{{10, 10}, {20, 1}, {31, 10}, {40, 1}, {50, 10}}, -1},
		"the bastion slept":   {[]look{{10, 10}, {900, 900}, {910, 2}}, -1},
		"slept, and all gone": {[]look{{10, 10}, {900, 900}, {910, 910}, {920, 920}}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Unix(0, 0)
			l, lost := lull{last: start}, -1
			for i, v := range tc.looks {
				if l.nothing(start.Add(v.at), v.silent) && lost < 0 {
					lost = i
				}
			}
			if lost != tc.lost {
				t.Errorf("lost at %d, want %d", lost, tc.lost)
			}
		})
	}
}

// slowConn takes some 200 KiB a second.
type slowConn struct{ net.Conn }

func (c *slowConn) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond) // a slow link
	return c.Conn.Read(p[:min(len(p), 2048)])
}

// TestSlowClientIsNotLost: what is on its way to a client may keep an answer back for longer than the bastion waits for
// one; that bytes come is enough.
func TestSlowClientIsNotLost(t *testing.T) {
	t.Parallel()
	const pieces = 700 // of 1 KiB: more than three seconds' worth, all of which may wait in the bastion
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
		for r := range reqs {
			_ = r.Reply(true, nil)
			if r.Type == "exec" {
				break
			}
		}
		go ssh.DiscardRequests(reqs)
		for range pieces {
			if _, err := ch.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
		_ = ch.Close()
	})
	w := start(t, f, func(c *Config) { c.KeepAlive = 750 * time.Millisecond })
	raw, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	conn, chans, reqs, err := ssh.NewClientConn(&slowConn{Conn: raw}, w.addr, w.dialConfig(currentLogin(t)+"%web-1", f.credential(t).signer))
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(conn, chans, reqs)
	defer func() { _ = client.Close(); _ = client.Wait() }()
	var got strings.Builder
	s := newSession(t, client)
	s.Stdout = &got
	if err := s.Start("pour"); err != nil {
		t.Fatal(err)
	}
	// Its windows come each 96 KiB: twice a second, and a few times slower where the machine is busy.
	_ = s.Wait() // without an exit status
	if got.Len() != pieces<<10 {
		t.Errorf("%d bytes came", got.Len())
	}
}

func TestKeepAliveIsPositive(t *testing.T) {
	cfg, _, _ := testConfig(t, t.TempDir(), newFakeControl(t))
	defer func() { _ = cfg.Listener.Close() }()
	cfg.KeepAlive = -time.Second
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "keepalive") {
		t.Errorf("%v", err)
	}
}
