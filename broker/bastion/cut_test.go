package bastion

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/broker/api"
)

func TestRevocationCutsAndTells(t *testing.T) {
	for name, rev := range map[string]api.Revocation{
		"person":  {Issuer: issuer, Subject: subjectID},
		"login":   {LoginID: loginID},
		"session": {},
	} {
		for form, args := range forms(currentLogin(t)) {
			t.Run(name+" "+form, func(t *testing.T) {
				f := newFakeControl(t)
				f.startSSHD(t, "web-1", "host-web-1")
				w := start(t, f)
				term := w.openssh(t, f.credential(t)).terminal(args...)
				term.expect(recordedLine)
				term.typed("echo li''ve\n")
				term.expect("live\r\n")
				if name == "session" {
					rev.SessionID = f.only(t, kindStart).SessionID
				}
				rev.Index, rev.EventID, rev.Reason = 7, "evt_123", "left the company\x1b[2J"
				begun := time.Now()
				f.set(func() { f.revoked = append(f.revoked, rev) })
				eventually(t, "an acknowledgement", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.acks) > 0 })
				t.Logf("acknowledged after %v", time.Since(begun))
				term.expect("\r\nsega: session ended: access revoked: left the company\\u001b[2J (evt_123)")
				_ = term.cmd.Wait()
				if f.acks[0] != (api.Ack{Index: 7, Closed: 1}) {
					t.Errorf("acknowledged %+v", f.acks[0])
				}
				if end := f.only(t, kindEnd); end.Outcome != "revoked" || !strings.Contains(end.Reason, "left the company") {
					t.Errorf("reported %+v", end)
				}
			})
		}
	}
}

// TestNothingFlowsAfterTheCut has a person who keeps typing, and a host that counts what arrives
// after the bastion has said that the session is cut.
func TestNothingFlowsAfterTheCut(t *testing.T) {
	f := newFakeControl(t)
	var received atomic.Int64
	f.newGoHost(t, "web-1", "host-web-1", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
		go ssh.DiscardRequests(acceptRequests(reqs))
		buf := make([]byte, 32<<10)
		for {
			n, err := ch.Read(buf)
			received.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	w := start(t, f)
	s := newSession(t, w.direct(t))
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("sink"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for block := make([]byte, 1<<10); ; {
			if _, err := in.Write(block); err != nil {
				return
			}
		}
	})
	eventually(t, "bytes at the host", func() bool { return received.Load() > 0 })
	f.set(func() { f.revoked = append(f.revoked, api.Revocation{Index: 1, LoginID: loginID}) })
	eventually(t, "an acknowledgement", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.acks) > 0 })
	eventually(t, "the end", func() bool { return len(f.find(kindEnd)) == 1 })
	wg.Wait()
	var d endDetail
	decode(t, f.only(t, kindEnd).Details, &d)
	if got := received.Load(); got > d.In {
		t.Errorf("the host has %d bytes, the log %d", got, d.In)
	}
}

// acceptRequests says yes to everything, and closes its result with reqs.
func acceptRequests(reqs <-chan *ssh.Request) <-chan *ssh.Request {
	out := make(chan *ssh.Request)
	go func() {
		defer close(out)
		for r := range reqs {
			_ = r.Reply(true, nil)
		}
	}()
	return out
}

// TestRevocationBetweenHopAndSession revokes while the broker's answer is on its way: the session
// is not registered yet, and must not come to live.
func TestRevocationBetweenHopAndSession(t *testing.T) {
	f := newFakeControl(t)
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	f.onHop = func(*api.Hop) error {
		f.set(func() {
			f.revoked = append(f.revoked, api.Revocation{Index: 3, Issuer: issuer, Subject: subjectID, Reason: "raced"})
		})
		eventually(t, "an acknowledgement", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.acks) > 0 })
		return nil
	}
	s := newSession(t, w.direct(t))
	var errs strings.Builder
	s.Stderr = &errs
	err := s.Run("true")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != exitRefused || !strings.Contains(errs.String(), "access revoked: raced") {
		t.Errorf("got %v, %q", err, errs.String())
	}
	if got := h.logins(); len(got) != 0 {
		t.Errorf("the host was reached as %v", got)
	}
	if r := f.only(t, kindStart); r.Outcome != "denied" {
		t.Errorf("reported %+v", r)
	}
}

// TestRevocationWhileDialing has a host that does not answer until the revocation has been carried out.
func TestRevocationWhileDialing(t *testing.T) {
	f := newFakeControl(t)
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	dialing, release := make(chan struct{}), make(chan struct{})
	w := start(t, f, func(c *Config) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			close(dialing)
			<-release
			return new(net.Dialer).DialContext(context.WithoutCancel(ctx), network, addr)
		}
	})
	s := newSessionLater(t, w.direct(t))
	<-dialing
	f.set(func() { f.revoked = append(f.revoked, api.Revocation{Index: 3, LoginID: loginID}) })
	eventually(t, "an acknowledgement", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.acks) > 0 })
	close(release)
	if err := <-s; err == nil {
		t.Error("the session came to live")
	}
	if got := h.logins(); len(got) != 0 {
		t.Errorf("the host was reached as %v", got)
	}
}

// newSessionLater runs true on a connection, without waiting for it.
func newSessionLater(t *testing.T, c *ssh.Client) <-chan error {
	done := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		s, err := c.NewSession()
		if err == nil {
			err = s.Run("true")
		}
		done <- err
	})
	t.Cleanup(wg.Wait)
	return done
}

func TestFeedLostRefusesNewAndKeepsOldUntilTheLease(t *testing.T) {
	f := newFakeControl(t)
	f.leaseMS = 1500
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	s := newSession(t, w.direct(t))
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	var errs lockedBuffer
	s.Stderr = &errs
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	ping := func() error {
		if _, err := in.Write([]byte("x")); err != nil {
			return err
		}
		_, err := out.Read(make([]byte, 1))
		return err
	}
	if err := ping(); err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.down = true })
	eventually(t, "a lost feed", func() bool { return w.b.feed.open() != nil })
	if err := ping(); err != nil {
		t.Errorf("the living session died with the feed: %v", err)
	}
	refused := newSession(t, w.direct(t))
	var why strings.Builder
	refused.Stderr = &why
	if err := refused.Run("true"); err == nil || !strings.Contains(why.String(), errFeedLost.Error()) {
		t.Errorf("a new session got %v, %q", err, why.String())
	}
	if _, err := w.jump(t, f.credential(t), "web-1:22"); err == nil || !strings.Contains(err.Error(), errFeedLost.Error()) {
		t.Errorf("a new jump got %v", err)
	}
	_ = s.Wait()
	if !strings.Contains(errs.String(), "revocation feed") {
		t.Errorf("the person was told %q", errs.String())
	}
	if end := f.only(t, kindEnd); end.Outcome != "failure" || !strings.Contains(end.Reason, "feed") {
		t.Errorf("reported %+v", end)
	}
}

func TestSessionOutlivesABrokerRestart(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	s := newSession(t, w.direct(t))
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	f.set(func() {
		f.revoked = append(f.revoked, api.Revocation{Index: 5, LoginID: "ses_somebodyelse222222222"})
	})
	eventually(t, "a handled revocation", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.acks) == 1 })
	f.set(func() { f.down = true })
	eventually(t, "a lost feed", func() bool { return w.b.feed.open() != nil })
	f.set(func() { f.down = false })
	eventually(t, "a feed that is back", func() bool { return w.b.feed.open() == nil })
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Errorf("the session did not live on: %v", err)
	}
	f.mu.Lock()
	last := f.afters[len(f.afters)-1]
	f.mu.Unlock()
	if last != 5 {
		t.Errorf("the feed was resumed after %d, want 5", last)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if m, err := (feedStore{w.dir + "/data/feed.json"}).load(); err != nil || m.Index != 5 {
		t.Errorf("remembered %+v, %v", m, err)
	}
	if end := f.only(t, kindEnd); !strings.Contains(end.Reason, "shutting down") {
		t.Errorf("reported %+v", end)
	}
}

func TestOwnEndAndIdle(t *testing.T) {
	for name, tc := range map[string]struct {
		notAfter time.Duration
		idle     int
		want     string
	}{
		"not after": {notAfter: 700 * time.Millisecond, want: "time is up"},
		"idle":      {notAfter: time.Hour, idle: 1, want: "idle for 1 s"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			f.notAfter, f.idle = tc.notAfter, tc.idle
			f.newGoHost(t, "web-1", "host-web-1", echo)
			w := start(t, f)
			s := newSession(t, w.direct(t))
			_, _ = s.StdinPipe() // stays open
			var errs lockedBuffer
			s.Stderr = &errs
			if err := s.Shell(); err != nil {
				t.Fatal(err)
			}
			_ = s.Wait()
			if !strings.Contains(errs.String(), tc.want) {
				t.Errorf("the person was told %q", errs.String())
			}
			if end := f.only(t, kindEnd); end.Outcome != "success" || !strings.Contains(end.Reason, tc.want) {
				t.Errorf("reported %+v", end)
			}
		})
	}
}

// feedControl is a Control that is nothing but a feed.
type feedControl struct {
	Control
	feed func(ctx context.Context, after int64, handle func(api.FeedItem) error) error
	acks chan api.Ack
}

func (c feedControl) Feed(ctx context.Context, after int64, _ []byte, handle func(api.FeedItem) error) error {
	return c.feed(ctx, after, handle)
}
func (c feedControl) Ack(_ context.Context, a api.Ack) error { c.acks <- a; return nil }

func newTestFeed(t *testing.T, c Control) *feed {
	log := discardLog()
	return &feed{control: c, reg: newRegistry(), report: func([]api.Report) {}, store: feedStore{t.TempDir() + "/feed.json"}, log: log, silence: 3 * time.Second,
		lease: defaultLease, acks: newAckQueue(c, log), carried: make(chan carried, carriedMost), seen: make(chan []byte, 1), moved: make(chan struct{}, 1), turned: make(chan struct{}, 1), ready: make(chan struct{})}
}

// TestLeaseAndSilence measures the feed's times on a clock of its own.
func TestLeaseAndSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		items := make(chan api.FeedItem)
		f := newTestFeed(t, feedControl{acks: make(chan api.Ack, 10), feed: func(ctx context.Context, _ int64, handle func(api.FeedItem) error) error {
			if err := handle(api.FeedItem{Type: api.FeedTrust, Trust: &api.Trust{}, LeaseMS: 20_000}); err != nil {
				return err
			}
			for {
				select {
				case <-ctx.Done():
					<-items // down for good, until the test lets it
					return context.Cause(ctx)
				case item := <-items:
					if err := handle(item); err != nil {
						return err
					}
				}
			}
		}})
		var ended []time.Time
		entry := &live{session: true, sever: func(endReason, <-chan struct{}) bool { ended = append(ended, time.Now()); return true }}
		if rev := f.reg.admit(f.reg.claim(), entry); rev != nil {
			t.Fatal(rev)
		}
		if err := f.open(); !errors.Is(err, errNoTrust) {
			t.Errorf("before the first trust item: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.run(ctx) }()
		synctest.Wait()
		for range 100 { // a heartbeat each second keeps everything open
			time.Sleep(time.Second)
			items <- api.FeedItem{Type: api.FeedHeartbeat}
			synctest.Wait()
			if err := f.open(); err != nil {
				t.Fatalf("with heartbeats: %v", err)
			}
		}
		last := time.Now()
		time.Sleep(3*time.Second - time.Millisecond)
		if err := f.open(); err != nil {
			t.Errorf("just before silence: %v", err)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if err := f.open(); !errors.Is(err, errFeedLost) {
			t.Errorf("just after silence: %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(ended) != 1 || ended[0].Sub(last) != 20*time.Second {
			t.Errorf("cut %v after the last item %v", ended, last)
		}
		cancel()
		close(items)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestWitnessStopsNewSessions refuses a checkpoint, and then accepts one.
func TestWitnessStopsNewSessions(t *testing.T) {
	f := newTestFeed(t, feedControl{})
	fork := true
	f.witness = func(context.Context, []byte) error {
		if fork {
			return errors.New("tree has shrunk")
		}
		return nil
	}
	if err := f.setTrust(api.Trust{}); err != nil {
		t.Fatal(err)
	}
	f.judge(t.Context(), []byte("note"))
	if err := f.open(); !errors.Is(err, errWitness) {
		t.Errorf("after a fork: %v", err)
	}
	fork = false
	f.judge(t.Context(), []byte("note 2"))
	if err := f.open(); err != nil {
		t.Errorf("after a good checkpoint: %v", err)
	}
	if m, err := f.store.load(); err != nil || string(m.Checkpoint) != "note 2" {
		t.Errorf("remembered %+v, %v", m, err)
	}
}

func TestSubjectsOfRevocations(t *testing.T) {
	s := subject{issuer: "i", subject: "s", login: "ses_1", session: "ssh_1", host: "web-1", access: 1, hop: 2, hostCert: 3}
	for name, tc := range map[string]struct {
		rev  api.Revocation
		want bool
	}{
		"person":                     {api.Revocation{Issuer: "i", Subject: "s"}, true},
		"same subject elsewhere":     {api.Revocation{Issuer: "j", Subject: "s"}, false},
		"login":                      {api.Revocation{LoginID: "ses_1"}, true},
		"other login":                {api.Revocation{LoginID: "ses_2"}, false},
		"session":                    {api.Revocation{SessionID: "ssh_1"}, true},
		"other session":              {api.Revocation{SessionID: "ssh_2"}, false},
		"access certificate":         {api.Revocation{Profile: "access", Serial: 1}, true},
		"hop certificate":            {api.Revocation{Profile: "hop", Serial: 2}, true},
		"host certificate":           {api.Revocation{Profile: "host", Serial: 3}, true},
		"front certificate":          {api.Revocation{Profile: "front", Serial: 1}, false},
		"one serial, another CA":     {api.Revocation{Profile: "hop", Serial: 1}, false},
		"another access certificate": {api.Revocation{Profile: "access", Serial: 2}, false},
		"another host certificate":   {api.Revocation{Profile: "host", Serial: 1}, false},
		"a profile that is new":      {api.Revocation{Profile: "pager", Serial: 9}, true},
		"a profile without serial":   {api.Revocation{Profile: "access"}, true},
		"host":                       {api.Revocation{Host: "web-1"}, true},
		"another host":               {api.Revocation{Host: "web-2"}, false},
		"a form that is not known":   {api.Revocation{}, true},
		"half a person is not known": {api.Revocation{Subject: "other"}, true},
	} {
		if got := s.hitBy(tc.rev); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if outer := (subject{login: "ses_1", outer: true}); !outer.hitBy(api.Revocation{Issuer: "i", Subject: "s"}) {
		t.Error("an outer connection that may be the person's is not hit")
	}
	outer := subject{login: "ses_1", outer: true, access: 1}
	for rev, want := range map[api.Revocation]bool{{Profile: "access", Serial: 1}: true, {Profile: "access", Serial: 2}: false, {Profile: "host", Serial: 1}: false, {Host: "web-1"}: false} {
		if got := outer.hitBy(rev); got != want {
			t.Errorf("an outer connection, %+v: %v", rev, got)
		}
	}
}

// TestFeedWaitsForNoSession: while it is reported that the sessions know of the lost feed, which takes a disk,
// it comes back, and a revocation is carried out.
func TestFeedWaitsForNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connections := 0
		f := newTestFeed(t, feedControl{acks: make(chan api.Ack, 10), feed: func(ctx context.Context, _ int64, handle func(api.FeedItem) error) error {
			for _, item := range []api.FeedItem{{Type: api.FeedTrust, Trust: &api.Trust{}}, {Type: api.FeedHeartbeat}} {
				if err := handle(item); err != nil {
					return err
				}
			}
			if connections++; connections == 1 {
				<-ctx.Done() // silence
				return context.Cause(ctx)
			}
			if err := handle(api.FeedItem{Type: api.FeedRevoke, Revocation: &api.Revocation{Index: 1, SessionID: "ssh_1"}}); err != nil {
				return err
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}})
		disk, cut := make(chan struct{}), make(chan endReason, 10)
		f.report = func([]api.Report) { <-disk }
		entry := &live{session: true, subject: subject{session: "ssh_1"}, failed: func(string) []api.Report { return nil },
			mended: func(string) []api.Report { return nil }, sever: func(why endReason, _ <-chan struct{}) bool { cut <- why; return true }}
		if rev := f.reg.admit(f.reg.claim(), entry); rev != nil {
			t.Fatal(rev)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.run(ctx) }()
		if why := <-cut; why.outcome != audit.Revoked { // the end of the lease, at the latest
			t.Errorf("cut because %v", why)
		}
		close(disk)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
