package bastion

import (
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/broker/api"
)

// sleeper is a laptop's connection whose reading stops when it is put to sleep, as that of a process
// that was stopped does.
type sleeper struct {
	net.Conn
	mu     sync.Mutex
	change *sync.Cond
	asleep bool
	closed bool
}

func newSleeper(c net.Conn) *sleeper {
	s := &sleeper{Conn: c}
	s.change = sync.NewCond(&s.mu)
	return s
}

func (s *sleeper) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.asleep && !s.closed {
		s.change.Wait()
	}
	return n, err
}

func (s *sleeper) sleep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asleep = true
}

func (s *sleeper) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.change.Broadcast()
	return s.Conn.Close()
}

// flood writes until its channel is closed.
func flood(ch ssh.Channel, reqs <-chan *ssh.Request) {
	go ssh.DiscardRequests(acceptRequests(reqs))
	for block := make([]byte, 32<<10); ; {
		if _, err := ch.Write(block); err != nil {
			return
		}
	}
}

// unreadSession starts a flood through ssh -J, of which nobody reads a byte, and returns when no
// more of it fits. The connection under it is the laptop's.
func (w *world) unreadSession(t *testing.T) (id string, laptop *sleeper, outer *ssh.Client) {
	t.Helper()
	tcp, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	laptop = newSleeper(tcp)
	t.Cleanup(func() { _ = laptop.Close() })
	cred := w.control.credential(t)
	conn, chans, reqs, err := ssh.NewClientConn(laptop, w.addr, w.dialConfig("ada", cred.signer))
	if err != nil {
		t.Fatal(err)
	}
	outer = ssh.NewClient(conn, chans, reqs)
	through, err := outer.Dial("tcp", "web-1:22")
	if err != nil {
		t.Fatal(err)
	}
	stuck := newSleeper(through)
	t.Cleanup(func() { _ = stuck.Close() })
	inner, chans, reqs, err := ssh.NewClientConn(stuck, "web-1:22", w.dialConfig(currentLogin(t), cred.signer))
	if err != nil {
		t.Fatal(err)
	}
	ch, chReqs, err := ssh.NewClient(inner, chans, reqs).OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(chReqs)
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(nameRequest{"flood"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	stuck.sleep()
	id = w.control.only(t, kindStart).SessionID
	last, since := int64(-1), time.Now()
	eventually(t, "a window that is full", func() bool {
		info, err := os.Stat(w.b.spool.path(id))
		if err == nil && info.Size() != last {
			last, since = info.Size(), time.Now()
		}
		return last > 1<<20 && time.Since(since) > 300*time.Millisecond
	})
	return id, laptop, outer
}

// TestCutOfAJumpThatIsNotRead cuts what flows to a laptop that has stopped reading, the one inner
// connection or all of it. The end is reported, the recording closed and archived, and the bastion
// can stop; a laptop that reads keeps its outer connection.
func TestCutOfAJumpThatIsNotRead(t *testing.T) {
	for name, tc := range map[string]struct {
		asleep bool // the whole laptop, not the inner ssh alone
		rev    api.Revocation
		stop   bool // the bastion instead of a revocation
		want   string
	}{
		"session":                 {want: "revoked"},
		"session, laptop asleep":  {asleep: true, want: "revoked"},
		"person, laptop asleep":   {asleep: true, rev: api.Revocation{Issuer: issuer, Subject: subjectID}, want: "revoked"},
		"shutdown, laptop asleep": {asleep: true, stop: true, want: "failure"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeControl(t)
			f.newGoHost(t, "web-1", "host-web-1", flood)
			w := start(t, f)
			id, laptop, outer := w.unreadSession(t)
			if tc.asleep {
				laptop.sleep()
			}
			if !tc.stop {
				if tc.rev == (api.Revocation{}) {
					tc.rev.SessionID = id
				}
				tc.rev.Index = 1
				f.set(func() { f.revoked = append(f.revoked, tc.rev) })
				if end := f.only(t, kindEnd); end.Outcome != tc.want {
					t.Errorf("reported %+v", end)
				}
				w.frames(id)
			}
			if !tc.asleep && !tc.stop {
				if _, err := outer.Dial("tcp", "web-1:22"); err != nil {
					t.Errorf("the outer connection went with the inner one: %v", err)
				}
			}
			stopped := make(chan error, 1)
			go func() { stopped <- w.stop() }()
			select {
			case <-stopped:
			case <-time.After(2 * patience):
				_ = laptop.Close()
				t.Fatal("the bastion cannot stop")
			}
			end := f.only(t, kindEnd)
			var d endDetail
			decode(t, end.Details, &d)
			if end.Outcome != tc.want || d.Recording.Verdict != recording.StatusComplete || !strings.HasPrefix(end.SessionID, "ssh_") {
				t.Errorf("reported %+v, recording %+v", end, d.Recording)
			}
		})
	}
}
