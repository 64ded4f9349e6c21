package bastion

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// steps notes what is done to connections that are cut, and when.
type steps struct {
	mu    sync.Mutex
	began time.Time
	done  []string
}

func (s *steps) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, fmt.Sprintf("%s after %v", what, time.Since(s.began)))
}

// connection is one that a cut finds; its person has been told after so long.
func (s *steps) connection(session string, told time.Duration) *live {
	parted := make(chan struct{})
	return &live{session: true, subject: subject{session: session}, parted: parted, hangUp: func() { s.note("hang up") },
		sever: func(endReason, <-chan struct{}) bool {
			s.note("sever")
			time.AfterFunc(told, func() { close(parted) })
			return true
		}}
}

// TestAllAreSeveredBeforeOneIsHungUp: no host's connection is closed, and nothing that waits for that begins, before all
// are severed and all people told, or the time for that is up.
func TestAllAreSeveredBeforeOneIsHungUp(t *testing.T) {
	for name, tc := range map[string]struct {
		told []time.Duration
		want []string
	}{
		"nobody":           {},
		"two who read":     {[]time.Duration{30 * time.Millisecond, 20 * time.Millisecond}, []string{"sever after 0s", "sever after 0s", "hang up after 30ms", "hang up after 30ms"}},
		"one who does not": {[]time.Duration{time.Hour, time.Millisecond}, []string{"sever after 0s", "sever after 0s", "hang up after 200ms", "hang up after 200ms"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, reg := &steps{began: time.Now()}, newRegistry()
				for _, told := range tc.told {
					reg.admit(reg.claim(), s.connection("ssh_1", told))
				}
				c := reg.cut(everybody, leaseEnded())
				select {
				case <-c.done:
					t.Error("what waits for the others may begin before they are cut")
				default:
				}
				if got := c.finish(); got != len(tc.told) {
					t.Errorf("%d sessions were cut", got)
				}
				<-c.done
				if diff := cmp.Diff(tc.want, s.done); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestWhoDoesNotReadHoldsUpNoRevocation: what the next revocation touches is severed at once, and both are acknowledged in
// their order.
func TestWhoDoesNotReadHoldsUpNoRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, acks := &steps{began: time.Now()}, make(chan api.Ack, 10)
		f := newTestFeed(t, feedControl{acks: acks, feed: func(ctx context.Context, _ int64, handle func(api.FeedItem) error) error {
			for i := range int64(3) {
				id := fmt.Sprint("ssh_", i)
				if err := handle(api.FeedItem{Type: api.FeedRevoke, Revocation: &api.Revocation{Index: i, SessionID: id}}); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}})
		for i := range 3 {
			f.reg.admit(f.reg.claim(), s.connection(fmt.Sprint("ssh_", i), time.Hour))
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.run(ctx) }()
		for i := range int64(3) {
			if a := <-acks; a != (api.Ack{Index: i, Closed: 1}) {
				t.Errorf("acknowledged %+v, want index %d", a, i)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := []string{"sever after 0s", "sever after 0s", "sever after 0s", "hang up after 200ms", "hang up after 200ms", "hang up after 200ms"}
		if diff := cmp.Diff(want, s.done); diff != "" {
			t.Error(diff)
		}
	})
}

// stuckConn is a host's connection whose Close takes until it is released.
type stuckConn struct {
	net.Conn
	release <-chan struct{}
}

func (c stuckConn) Close() error {
	<-c.release
	return c.Conn.Close()
}

// countedSpool counts spools that are closed, which is part of what a session does in its end.
type countedSpool struct {
	SpoolFile
	closed *atomic.Int32
}

func (f countedSpool) Close() error {
	f.closed.Add(1)
	return f.SpoolFile.Close()
}

// TestCutComesBeforeFinishing: while the connection of one host takes its time to close, everybody reads why the session
// ends, and none of these sessions is sealed, synced or reported. A session that the revocation does not touch ends as
// ever. Afterwards each has its end.
func TestCutComesBeforeFinishing(t *testing.T) {
	const many = 5
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	release := make(chan struct{})
	var dialed, closed atomic.Int32
	w := start(t, f, func(c *Config) {
		c.Spool = func(f SpoolFile) SpoolFile { return countedSpool{f, &closed} }
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil && dialed.Add(1) == 1 {
				nc = stuckConn{nc, release}
			}
			return nc, err
		}
	})
	letGo := sync.OnceFunc(func() { close(release) })
	t.Cleanup(letGo)
	revoked := f.credential(t)
	var told [many]lockedBuffer
	var ended [many]chan error
	for i := range many {
		c := w.mustDial(t, currentLogin(t)+"%web-1", revoked.signer)
		s := newSession(t, c)
		if _, err := s.StdinPipe(); err != nil { // stays open
			t.Fatal(err)
		}
		s.Stderr, ended[i] = &told[i], make(chan error, 1)
		if err := s.Shell(); err != nil {
			t.Fatal(err)
		}
		go func() { ended[i] <- s.Wait(); _ = c.Close() }()
	}
	f.set(func() {
		f.revoked = append(f.revoked, api.Revocation{Index: 1, Profile: api.ProfileAccess, Serial: revoked.cert.Serial, Reason: "left"})
	})
	why := "the access certificate of this session was revoked: left"
	for i := range many {
		<-ended[i]
		if got, want := told[i].String(), "sega: session ended: "+why+"\r\n"; got != want {
			t.Errorf("session %d was told %q, want %q", i, got, want)
		}
	}
	other := w.direct(t)
	if err := newSession(t, other).Run("true"); err != nil {
		t.Error(err)
	}
	_ = other.Close()
	if r := f.only(t, kindEnd); r.Outcome != "success" || closed.Load() != 1 {
		t.Errorf("before all hosts' connections were closed %d sessions were finished, one of them as %+v", closed.Load(), r)
	}
	letGo()
	eventually(t, "an acknowledgement", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.acks) == 1 && f.acks[0] == api.Ack{Index: 1, Closed: many}
	})
	eventually(t, "the ends", func() bool { return len(f.find(kindEnd)) == 1+many })
	for _, r := range f.find(kindEnd)[1:] {
		if r.Outcome != "revoked" || r.Reason != why {
			t.Errorf("reported %+v", r)
		}
	}
}

// TestSever: what is queued does not go out, nothing comes in, both at once, and the connection ends with Abort alone.
func TestSever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		b := newBufferedConn(near, &buffers{})
		read := make(chan error, 1)
		go func() { _, err := b.Read(make([]byte, 1)); read <- err }()
		for _, text := range []string{"on its way", "queued"} {
			if _, err := b.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		b.Sever()
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		if _, err := b.Write([]byte("late")); err == nil {
			t.Error("more is queued")
		}
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		got := make(chan []byte, 1)
		go func() { all, _ := io.ReadAll(far); got <- all }()
		synctest.Wait()
		select {
		case all := <-got:
			t.Errorf("the connection ended with Close, after %q", all)
		default:
		}
		b.Abort()
		if all := <-got; len(all) != 0 {
			t.Errorf("%q went out", all)
		}
	})
}
