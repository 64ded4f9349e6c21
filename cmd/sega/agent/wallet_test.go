package agent

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sega/broker/api"
)

func TestWarm(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		for range 3 {
			if got := mustGet(t, l, "dev"); got != "ASIA1" {
				t.Fatal(got)
			}
		}
		if got := mustGet(t, l, "prod"); got != "ASIA2" {
			t.Fatal(got)
		}
		if minted, asked := b.count(); minted != 2 || asked != 0 {
			t.Errorf("minted %d, asked %d", minted, asked)
		}
	})
}

// TestOnlyWhatWasAskedFor: a narrowed request never gets what a wider one has brought.
func TestOnlyWhatWasAskedFor(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		requests := []api.CredentialsRequest{{Role: "dev"}, {Role: "dev", ReadOnly: true}, {Role: "dev", Policy: "{}"}, {Role: "dev", Seconds: 900}, {Role: "dev", Reason: "x"},
			{Role: "dev", Ticket: "x"}, {Role: "dev", Chain: []string{"a"}}, {Role: "dev", PolicyARNs: []string{"a"}}}
		seen := map[string]bool{}
		for range 2 {
			for _, r := range requests {
				c, err := l.wallet.get(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				seen[c.AccessKeyID] = true
			}
		}
		if len(seen) != len(requests) {
			t.Errorf("%d requests got %d credentials", len(requests), len(seen))
		}
	})
}

// TestSingleFlight: a hundred that ask at once are one question.
func TestSingleFlight(t *testing.T) {
	b := newBroker()
	b.hold = nil
	alive(t, b, func(t *testing.T, l *life) {
		hold := make(chan struct{})
		b.with(func(b *broker) { b.hold = hold })
		var all sync.WaitGroup
		got := make(chan string, 100)
		for range 100 {
			all.Go(func() { got <- mustGet(t, l, "dev") })
		}
		synctest.Wait()
		close(hold)
		all.Wait()
		close(got)
		for key := range got {
			if key != "ASIA1" {
				t.Errorf("%s", key)
			}
		}
		if minted, _ := b.count(); minted != 1 {
			t.Errorf("%d were minted", minted)
		}
	})
}

// TestWindows: from 20 minutes left on they are replaced behind what goes on, under 10 before.
func TestWindows(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		mustGet(t, l, "dev")
		time.Sleep(39 * time.Minute)
		if got := mustGet(t, l, "dev"); got != "ASIA1" {
			t.Fatalf("21 minutes left: %s", got)
		}
		synctest.Wait()
		if minted, _ := b.count(); minted != 1 {
			t.Fatalf("replaced with more than 20 minutes left")
		}
		time.Sleep(2 * time.Minute) // tended in between
		synctest.Wait()
		if minted, _ := b.count(); minted != 2 {
			t.Errorf("not replaced before anybody asked: %d", minted)
		}
		if got := mustGet(t, l, "dev"); got != "ASIA2" {
			t.Errorf("after it was replaced: %s", got)
		}
		// Nobody has asked for long: it is left to end.
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		if minted, _ := b.count(); minted != 2 {
			t.Errorf("what nobody uses was replaced: %d", minted)
		}
		if got := mustGet(t, l, "dev"); got != "ASIA3" {
			t.Errorf("under ten minutes left: %s", got)
		}
	})
}

// TestNothingBetter: under 10 minutes is handed out only where nothing better is to be had.
func TestNothingBetter(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		mustGet(t, l, "dev")
		b.with(func(b *broker) { b.mintErr = api.Errorf(api.KindUnreachable, "AWS STS did not answer") })
		time.Sleep(55 * time.Minute)
		if got := mustGet(t, l, "dev"); got != "ASIA1" {
			t.Errorf("%s", got)
		}
		b.with(func(b *broker) { b.mintErr = api.Errorf(api.KindDenied, "no policy permits that") })
		if _, err := l.wallet.get(t.Context(), api.CredentialsRequest{Role: "dev"}); !api.IsKind(err, api.KindDenied) {
			t.Errorf("what policy denies anew: %v", err)
		}
		b.with(func(b *broker) { b.mintErr = api.Errorf(api.KindUnreachable, "AWS STS did not answer") })
		time.Sleep(6 * time.Minute)
		if _, err := l.wallet.get(t.Context(), api.CredentialsRequest{Role: "dev"}); !api.IsKind(err, api.KindUnreachable) {
			t.Errorf("what has expired: %v", err)
		}
	})
}

// TestStanding: when decisions may come out otherwise, the broker is asked before the next hand-out.
func TestStanding(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		mustGet(t, l, "dev")
		b.with(func(b *broker) { b.standing = "s2" })
		time.Sleep(2 * time.Second)
		mustGet(t, l, "dev")
		mustGet(t, l, "dev")
		if minted, asked := b.count(); minted != 1 || asked != 1 {
			t.Errorf("minted %d, asked %d", minted, asked)
		}
		b.with(func(b *broker) { b.standing, b.reuseErr = "s3", api.Errorf(api.KindDenied, "no policy permits that") })
		time.Sleep(2 * time.Second)
		if _, err := l.wallet.get(t.Context(), api.CredentialsRequest{Role: "dev"}); !api.IsKind(err, api.KindDenied) {
			t.Errorf("%v", err)
		}
		b.with(func(b *broker) { b.reuseErr = api.Errorf(api.KindNotFound, "not to be used any more") })
		if got := mustGet(t, l, "dev"); got != "ASIA2" {
			t.Errorf("%s", got)
		}
	})
}

// TestWithoutFeed: outside of the lease nothing is handed out that the broker does not stand by (R12).
func TestWithoutFeed(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		mustGet(t, l, "dev")
		gone := api.Errorf(api.KindUnreachable, "the broker does not answer")
		b.with(func(b *broker) { b.silent = true })
		time.Sleep(20 * time.Second)
		mustGet(t, l, "dev") // inside the lease
		if _, asked := b.count(); asked != 0 {
			t.Errorf("asked inside the lease")
		}
		time.Sleep(11 * time.Second)
		mustGet(t, l, "dev")
		if _, asked := b.count(); asked != 1 {
			t.Errorf("not asked outside of the lease")
		}
		b.with(func(b *broker) { b.reuseErr, b.mintErr = gone, gone })
		if _, err := l.wallet.get(t.Context(), api.CredentialsRequest{Role: "dev"}); !api.IsKind(err, api.KindUnreachable) {
			t.Errorf("without feed and broker: %v", err)
		}
		b.with(func(b *broker) { b.silent, b.feedErr = false, gone })
		time.Sleep(2 * time.Second)
		if l.clock.leased() {
			t.Error("a feed that broke is taken for live")
		}
	})
}

// TestBounded: what was used longest ago makes room.
func TestBounded(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		for i := range maxHeld + 10 {
			mustGet(t, l, fmt.Sprint(i))
			time.Sleep(time.Millisecond)
		}
		if n := len(l.wallet.list()); n != maxHeld {
			t.Errorf("%d are held", n)
		}
	})
}

// TestFailedReplacement is not tried again with every question.
func TestFailedReplacement(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		mustGet(t, l, "dev")
		tries := 0
		b.with(func(b *broker) { b.mintErr = errors.New("no") })
		time.Sleep(41 * time.Minute)
		from := l.clock.now()
		for l.clock.now().Sub(from) < 3*time.Minute {
			mustGet(t, l, "dev")
			l.wallet.mu.Lock()
			for _, h := range l.wallet.held {
				if h.tried.Equal(l.clock.now()) {
					tries++
				}
			}
			l.wallet.mu.Unlock()
			time.Sleep(time.Second)
		}
		if tries == 0 || tries > 4 {
			t.Errorf("%d tries in three minutes", tries)
		}
	})
}
