package agent

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// TestLease: who does not hear the broker any more has its lease (R12); what the broker says ends it.
func TestLease(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		asked int
	}{
		"no network":       {api.Errorf(api.KindUnreachable, "x"), 0},
		"the broker stops": {api.Errorf(api.KindUnavailable, "x"), 0},
		"another feed":     {api.Errorf(api.KindConflict, "x"), 1},
		"something else":   {errors.New("x"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker()
			alive(t, b, func(t *testing.T, l *life) {
				mustGet(t, l, "dev")
				b.with(func(b *broker) { b.feedErr = c.err })
				b.cut <- c.err
				synctest.Wait()
				mustGet(t, l, "dev")
				if _, asked := b.count(); asked != c.asked {
					t.Errorf("the broker was asked %d times", asked)
				}
				var s Status
				if l.describe(&s); s.FeedAlive {
					t.Error("the feed is said to live")
				}
				time.Sleep(31 * time.Second)
				b.with(func(b *broker) { b.reuseErr = api.Errorf(api.KindUnreachable, "x") })
				if _, err := l.wallet.get(t.Context(), api.CredentialsRequest{Role: "dev"}); !api.IsKind(err, api.KindUnreachable) {
					t.Errorf("after the lease: %v", err)
				}
			})
		})
	}
}

func revocation() api.FeedItem {
	return api.FeedItem{Type: api.FeedRevoke, LeaseMS: 30_000, Revocation: &api.Revocation{Index: 41, EventID: "e", Issuer: "i", Subject: "s", Reason: "laptop stolen"}}
}

// TestRevoked: everything is dropped first and acknowledged second, and whoever asks is told why.
func TestRevoked(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		mustGet(t, l, "dev")
		mustGet(t, l, "prod")
		b.items <- revocation()
		synctest.Wait()
		if n := len(l.wallet.list()); n != 0 {
			t.Errorf("%d are still held", n)
		}
		_, err := l.wallet.get(t.Context(), api.CredentialsRequest{Role: "dev"})
		if p := api.AsProblem(err); p.Kind != api.KindRevoked || p.Detail != "access was revoked: laptop stolen" {
			t.Errorf("%v: %v", p.Kind, p)
		}
		if diff := cmp.Diff([]api.Ack{{Index: 41, Closed: 2}}, b.acked); diff != "" {
			t.Error(diff)
		}
	})
}

// TestRevokedCounts: the receipt counts what was held, whoever is the first to drop it.
func TestRevokedCounts(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		mustGet(t, l, "dev")
		l.wallet.empty() // as life.run does when it hears of the end
		b.items <- revocation()
		synctest.Wait()
		if diff := cmp.Diff([]api.Ack{{Index: 41, Closed: 1}}, b.acked); diff != "" {
			t.Error(diff)
		}
	})
}

// TestRevokedMeanwhile: what comes back after a revocation is not handed out (I8).
func TestRevokedMeanwhile(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		hold := make(chan struct{})
		b.with(func(b *broker) { b.hold = hold })
		got := make(chan error, 1)
		go func() {
			_, err := l.wallet.get(t.Context(), api.CredentialsRequest{Role: "dev"})
			got <- err
		}()
		synctest.Wait()
		b.items <- revocation()
		synctest.Wait()
		close(hold)
		if err := <-got; !api.IsKind(err, api.KindRevoked) {
			t.Errorf("%v", err)
		}
		synctest.Wait()
		if n := len(l.wallet.list()); n != 0 {
			t.Errorf("%d are held after the revocation", n)
		}
	})
}

// TestSSHSessionRevoked: the end of one SSH session is none of the login's.
func TestSSHSessionRevoked(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		mustGet(t, l, "dev")
		item := revocation()
		item.Revocation = &api.Revocation{Index: 41, SessionID: "ssh_1"}
		b.items <- item
		synctest.Wait()
		if got := mustGet(t, l, "dev"); got != "ASIA1" {
			t.Errorf("%s", got)
		}
	})
}

func TestFeedEnds(t *testing.T) {
	for name, c := range map[string]struct {
		err, renew error
		lives      bool
		kind       api.Kind
	}{
		"unreachable":          {api.Errorf(api.KindUnreachable, "x"), nil, true, ""},
		"broker drains":        {errors.New("EOF"), nil, true, ""},
		"revoked":              {api.Errorf(api.KindRevoked, "x"), nil, false, api.KindRevoked},
		"expired, renewable":   {api.Errorf(api.KindUnauthenticated, "x"), nil, true, ""},
		"expired, IdP is away": {api.Errorf(api.KindUnauthenticated, "x"), api.Errorf(api.KindUnreachable, "x"), true, ""},
		"ended":                {api.Errorf(api.KindUnauthenticated, "x"), api.Errorf(api.KindUnauthenticated, "y"), false, api.KindUnauthenticated},
		"expired and revoked":  {api.Errorf(api.KindUnauthenticated, "x"), api.Errorf(api.KindRevoked, "y"), false, api.KindRevoked},
		"expired, no keychain": {api.Errorf(api.KindUnauthenticated, "x"), errors.New("locked"), true, ""},
		"an older broker":      {api.Errorf(api.KindNotFound, "x"), nil, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker()
			alive(t, b, func(t *testing.T, l *life) {
				mustGet(t, l, "dev")
				b.with(func(b *broker) { b.renewErr = c.renew })
				b.cut <- c.err
				time.Sleep(time.Second)
				synctest.Wait()
				if over := l.over(); (over == nil) != c.lives || over != nil && over.Kind != c.kind {
					t.Errorf("%v", over)
				}
				if c.lives && !l.clock.leased() {
					t.Error("the feed did not come back")
				}
			})
		})
	}
}

// TestRenewInTime: five minutes before its end.
func TestRenewInTime(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		b.with(func(b *broker) { b.silent = true }) // no heartbeat tells another end
		time.Sleep(54 * time.Minute)
		synctest.Wait()
		if renewals(b) != 0 {
			t.Error("renewed too early")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if renewals(b) == 0 {
			t.Error("not renewed")
		}
	})
}

// TestClockJumps: the laptop's clock is hours off, or jumps while it runs; only the broker's counts.
func TestClockJumps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"forward": 2 * time.Hour, "back": -2 * time.Hour} {
		for when, before := range map[string]bool{"from the start": true, "while it runs": false} {
			t.Run(name+" "+when, func(t *testing.T) {
				var off atomic.Int64
				if before {
					off.Store(int64(jump))
				}
				b := newBroker()
				aliveBy(t, b, func(read func() reading) func() reading {
					return func() reading {
						r := read()
						r.wall = r.wall.Add(time.Duration(off.Load()))
						return r
					}
				}, func(t *testing.T, l *life) {
					mustGet(t, l, "dev")
					off.Store(int64(jump))
					if !before && jump > 0 && l.clock.leased() {
						t.Error("the lease outlives two hours that may have passed in sleep")
					}
					mustGet(t, l, "dev")
					time.Sleep(1500 * time.Millisecond) // a heartbeat
					if got := mustGet(t, l, "dev"); got != "ASIA1" {
						t.Errorf("after the jump: %s", got)
					}
					time.Sleep(52 * time.Minute)
					if got := mustGet(t, l, "dev"); got != "ASIA2" {
						t.Errorf("with 8 minutes left: %s", got)
					}
				})
			})
		}
	}
}

// TestSleep: monotonic clocks stand still while a laptop sleeps, and the lease ends all the same.
func TestSleep(t *testing.T) {
	var asleep atomic.Int64
	b := newBroker()
	aliveBy(t, b, func(read func() reading) func() reading {
		return func() reading {
			r := read()
			r.ticks -= time.Duration(asleep.Load())
			return r
		}
	}, func(t *testing.T, l *life) {
		mustGet(t, l, "dev")
		// A network that was lost just before makes nobody wait after the sleep.
		b.with(func(b *broker) { b.feedErr = api.Errorf(api.KindUnreachable, "x") })
		time.Sleep(30 * time.Second)
		b.with(func(b *broker) { b.feedErr = nil })
		l.hear(t.Context())
		b.with(func(b *broker) { b.silent = true })
		old := api.FeedItem{Type: api.FeedHeartbeat, LeaseMS: 30_000, Session: &api.FeedSession{Now: b.now(), Expires: b.now().Add(time.Hour), Standing: "s1"}}
		asleep.Store(int64(time.Hour))
		time.Sleep(time.Hour)
		if l.clock.leased() {
			t.Error("the lease outlived the sleep")
		}
		b.items <- old
		synctest.Wait()
		if l.clock.leased() {
			t.Error("a heartbeat that has lain unread prolongs the lease")
		}
		b.with(func(b *broker) { b.silent = false })
		time.Sleep(time.Second)
		if !l.clock.leased() {
			t.Error("the feed did not come back")
		}
	})
}

func renewals(b *broker) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.renewed
}

// TestHear: whoever asks while the feed is lost is answered after another look for it, so that what was
// revoked meanwhile does not go out inside the lease; a broker that does not answer delays nobody.
func TestHear(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		mustGet(t, l, "dev")
		gone := api.Errorf(api.KindUnreachable, "the broker does not answer")
		b.with(func(b *broker) { b.feedErr = gone })
		time.Sleep(5 * time.Second) // the next attempt is seconds away
		from := time.Now()
		l.hear(t.Context())
		if took := time.Since(from); took > 0 || l.over() != nil || !l.clock.leased() {
			t.Errorf("a refused connection took %v: %v", took, l.over())
		}
		b.with(func(b *broker) { b.feedErr = api.Errorf(api.KindRevoked, "access was revoked") })
		l.hear(t.Context())
		if over := l.over(); over == nil || over.Kind != api.KindRevoked {
			t.Errorf("what was revoked meanwhile is held: %v", over)
		}
	})
	b = newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		b.with(func(b *broker) { b.feedErr = api.Errorf(api.KindUnreachable, "the broker does not answer") })
		time.Sleep(5 * time.Second)
		b.with(func(b *broker) { b.feedErr = nil })
		l.hear(t.Context())
		if l.mu.Lock(); l.lostWhy != "" {
			t.Errorf("the feed was not found again: %s", l.lostWhy)
		}
		l.mu.Unlock()
	})
}
