package bastion

import (
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
)

// stalledBytes bounds what the bastion may take of one session that nobody reads: windows of x/crypto
// (2 MiB a channel) on both sides, what waits for the network, and the kernel's buffers.
const stalledBytes = 32 << 20

// stalling opens a session to a host that reads nothing, or whose output the person does not read, and
// fills it until nothing moves any more.
func stalling(t *testing.T, f *fakeControl, w *world, side string) {
	t.Helper()
	var moved atomic.Int64
	flood := func(to io.Writer) {
		for block := make([]byte, 32<<10); ; {
			n, err := to.Write(block)
			moved.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	f.newGoHost(t, "web-2", "host-web-2", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
		go ssh.DiscardRequests(acceptRequests(reqs))
		if side == "client" {
			flood(ch)
		}
	})
	c := w.mustDial(t, currentLogin(t)+"%web-2", f.credential(t).signer)
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	if ok, err := ch.SendRequest("shell", true, nil); err != nil || !ok {
		t.Fatalf("no shell: %v, %v", ok, err)
	}
	if side == "host" {
		wg.Go(func() { flood(ch) })
	}
	last := int64(-1)
	eventually(t, "a session that stands still", func() bool {
		time.Sleep(100 * time.Millisecond) // of which nothing may have moved
		now := moved.Load()
		still := now > 0 && now == last
		last = now
		return still
	})
	if last > stalledBytes {
		t.Errorf("%d bytes were taken of a session that nobody reads", last)
	}
}

// TestStalledSessions: who reads nothing, person or host, costs a bounded amount of memory and holds
// nobody else up; his idle limit and a revocation end him like any other.
func TestStalledSessions(t *testing.T) {
	for _, side := range []string{"client", "host"} {
		for _, by := range []string{"revocation", "idle", "its end"} {
			if os.Getenv("SEGA_SOAK") != "1" && side+by != "client"+"idle" && side+by != "host"+"its end" && by != "revocation" {
				continue // each side and each end once
			}
			t.Run(side+", "+by, func(t *testing.T) {
				f := newFakeControl(t)
				f.newGoHost(t, "web-1", "host-web-1", echo)
				w := start(t, f, func(c *Config) { c.Log = discardLog() })
				p := w.typist(t)
				switch by {
				case "idle":
					f.onHop = func(h *api.Hop) error { h.IdleSeconds = 1; return nil }
				case "its end":
					f.onHop = func(h *api.Hop) error { h.NotAfter = time.Now().Add(2 * time.Second); return nil }
				case "revocation":
					f.onHop = func(h *api.Hop) error { h.LoginID = "ses_stalled"; return nil }
				}
				before := heap()
				stalling(t, f, w, side)
				t.Logf("%d KiB of heap for a session that nobody reads", (int64(heap())-int64(before))>>10)
				p.echoes('b')
				if by == "revocation" {
					f.set(func() { f.revoked = append(f.revoked, api.Revocation{Index: 9, LoginID: "ses_stalled"}) })
					eventually(t, "an acknowledgement", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.acks) > 0 })
				}
				eventually(t, "the end", func() bool { return len(f.find(kindEnd)) == 1 })
				p.echoes('c')
				want := map[string]string{"revocation": "access revoked", "idle": "idle for 1 s", "its end": "its time is up"}[by]
				if end := f.only(t, kindEnd); !strings.HasPrefix(end.Reason, want) {
					t.Errorf("ended by %q", end.Reason)
				}
			})
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// TestSilentHost: a host that takes connections and never speaks costs its person the time of a dial, and
// a revocation does not wait for it.
func TestSilentHost(t *testing.T) {
	for _, by := range []string{"timeout", "revocation"} {
		t.Run(by, func(t *testing.T) {
			f := newFakeControl(t)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			f.set(func() { f.inventory["web-1"] = testHost{address: l.Addr().String(), hostID: "host-web-1"} })
			w := start(t, f, func(c *Config) {
				if by == "timeout" {
					c.DialTimeout = 300 * time.Millisecond
				}
			})
			c, done := w.direct(t), make(chan error, 1)
			var errs lockedBuffer
			go func() { // ends with the connection
				s, err := c.NewSession() // which is answered when the host is there, or is not
				if err == nil {
					s.Stderr = &errs
					err = s.Run("true")
				}
				done <- err
			}()
			if by == "revocation" {
				eventually(t, "a hop", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.hops) == 1 })
				f.set(func() { f.revoked = append(f.revoked, api.Revocation{Index: 9, LoginID: loginID}) })
			}
			begun := time.Now()
			select {
			case err = <-done:
			case <-time.After(patience):
				t.Fatal("it waits for ever")
			}
			want := map[string]string{"timeout": "the host does not answer in time", "revocation": "access revoked"}[by]
			if err == nil || !strings.Contains(errs.String(), want) {
				t.Errorf("after %v: %v, %q", time.Since(begun), err, errs.String())
			}
		})
	}
}
