package broker

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/broker/state"
)

func newTestLimiter() (*limiter, *clock) {
	c := &clock{t: start}
	return newLimiter(Limits{AddressRate: 10, AddressBurst: 3, SubjectRate: 1, SubjectBurst: 2, RefusalRate: 0.1, RefusalBurst: 1}, c.now), c
}

func count(n int, take func() error) (passed int) {
	for range n {
		if take() == nil {
			passed++
		}
	}
	return passed
}

func TestLimiterRates(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.7")
	alice := state.Session{Kind: state.KindLogin, Issuer: issuer, Subject: "alice"}
	for name, c := range map[string]struct {
		take    func(l *limiter) func() error
		burst   int
		refills time.Duration // after which one more passes
	}{
		"address": {func(l *limiter) func() error { return func() error { return l.address(addr) } }, 3, 100 * time.Millisecond},
		"subject": {func(l *limiter) func() error { return func() error { return l.subject(alice) } }, 2, time.Second},
		"refusal": {func(l *limiter) func() error { return func() error { _, err := l.refusal(addr); return err } }, 1, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			l, clock := newTestLimiter()
			take := c.take(l)
			if got := count(50, take); got != c.burst {
				t.Errorf("%d passed at once, want %d", got, c.burst)
			}
			clock.add(c.refills)
			if got := count(50, take); got != 1 {
				t.Errorf("%d passed after %s, want 1", got, c.refills)
			}
			clock.add(1000 * c.refills)
			if got := count(50, take); got != c.burst {
				t.Errorf("%d passed after a long pause, want %d", got, c.burst)
			}
			p := api.AsProblem(take())
			if p.Kind != api.KindRateLimited || p.RetrySecs < 1 || !strings.Contains(p.Detail, "too many") {
				t.Errorf("problem %+v", p)
			}
		})
	}
}

// TestLimiterKeys: who shares a bucket, and who does not.
func TestLimiterKeys(t *testing.T) {
	person := func(iss, sub string) state.Session {
		return state.Session{Kind: state.KindLogin, Issuer: iss, Subject: sub}
	}
	addr := netip.MustParseAddr
	for name, c := range map[string]struct {
		first, second func(*limiter) error
		shared        bool
	}{
		"one IPv4 address":        {ofAddr(addr("192.0.2.1")), ofAddr(addr("192.0.2.1")), true},
		"two IPv4 addresses":      {ofAddr(addr("192.0.2.1")), ofAddr(addr("192.0.2.2")), false},
		"one /64":                 {ofAddr(addr("2001:db8:1:2::1")), ofAddr(addr("2001:db8:1:2:ffff::9")), true},
		"two /64":                 {ofAddr(addr("2001:db8:1:2::1")), ofAddr(addr("2001:db8:1:3::1")), false},
		"zones of one /64":        {ofAddr(addr("fe80::1%eth0")), ofAddr(addr("fe80::2%eth1")), true},
		"requests and refusals":   {ofAddr(addr("192.0.2.1")), func(l *limiter) error { _, err := l.refusal(addr("192.0.2.1")); return err }, false},
		"one person":              {ofPerson(person(issuer, "a")), ofPerson(person(issuer, "a")), true},
		"two people":              {ofPerson(person(issuer, "a")), ofPerson(person(issuer, "b")), false},
		"one sub of two issuers":  {ofPerson(person(issuer, "a")), ofPerson(person("https://other", "a")), false},
		"names that run together": {ofPerson(person("x", "ya")), ofPerson(person("xy", "a")), false},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := newTestLimiter()
			count(50, func() error { return c.first(l) })
			if got := c.second(l) != nil; got != c.shared {
				t.Errorf("shared is %v", got)
			}
		})
	}
}

func ofAddr(a netip.Addr) func(*limiter) error { return func(l *limiter) error { return l.address(a) } }

func ofPerson(s state.Session) func(*limiter) error {
	return func(l *limiter) error { return l.subject(s) }
}

// TestRefusalsLeftOut: the first that is granted again says how many were not, once, and each address
// for itself.
func TestRefusalsLeftOut(t *testing.T) {
	l, clock := newTestLimiter()
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	take := func(a netip.Addr) int {
		omitted, _ := l.refusal(a)
		return omitted
	}
	got := []int{take(one), take(one), take(one), take(other)}
	clock.add(10 * time.Second)
	got = append(got, take(one), take(other))
	clock.add(10 * time.Second)
	got = append(got, take(one))
	if diff := cmp.Diff([]int{0, 0, 0, 0, 2, 0, 0}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestLimiterLeavesMachines: bastions are bounded by their address alone.
func TestLimiterLeavesMachines(t *testing.T) {
	l, _ := newTestLimiter()
	for _, s := range []state.Session{{}, {Kind: state.KindMachine, Subject: "mch_1"}} {
		if got := count(100, func() error { return l.subject(s) }); got != 100 {
			t.Errorf("%q: %d of 100 passed", s.Kind, got)
		}
	}
}

// TestLimiterSweeps: buckets of strangers do not pile up, and one in use is not forgotten.
func TestLimiterSweeps(t *testing.T) {
	l, clock := newTestLimiter()
	for i := range 500 {
		_ = l.address(netip.MustParseAddr(fmt.Sprintf("192.0.%d.%d", i/250, i%250)))
	}
	busy := netip.MustParseAddr("198.51.100.1")
	clock.add(limiterLife)
	count(10, func() error { _, err := l.refusal(busy); return err })
	clock.add(time.Second)
	if _, err := l.refusal(busy); err == nil {
		t.Error("the sweep gave a bucket in use back")
	}
	if n := len(l.buckets); n != 1 {
		t.Errorf("%d buckets are kept", n)
	}
}

// TestLimitsOverHTTP: beyond the limits nothing is looked up and nothing is recorded.
func TestLimitsOverHTTP(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Limits = Limits{AddressRate: 1, AddressBurst: 100, SubjectRate: 1, SubjectBurst: 2, RefusalRate: 1, RefusalBurst: 3}
	})
	alice := w.login()
	for i, want := range []int{200, 200, 429} {
		rec := alice.do("GET", api.RouteSession, nil)
		if rec.Code != want || want == 429 && rec.Header().Get("Retry-After") != "1" {
			t.Errorf("request %d: %d %v", i, rec.Code, rec.Header())
		}
	}
	stranger := alice
	stranger.token = api.NewToken(api.PrefixSession)
	for i, want := range []int{401, 401, 401, 429, 429} {
		if rec := stranger.do("GET", api.RouteSession, nil); rec.Code != want {
			t.Errorf("stranger's request %d: %d", i, rec.Code)
		}
	}
	if n := len(w.events()); n != 3 {
		t.Errorf("strangers wrote %d events", n)
	}
}

// TestReadsPerPerson: a person's streams end at a number, which is theirs alone, and each that ends makes room.
func TestReadsPerPerson(t *testing.T) {
	l, _ := newTestLimiter()
	alice, bob := state.Session{Kind: state.KindLogin, Issuer: issuer, Subject: "alice"}, state.Session{Kind: state.KindLogin, Issuer: issuer, Subject: "bob"}
	var done []func()
	begin := func() error {
		end, err := l.read(alice)
		if err == nil {
			done = append(done, end)
		}
		return err
	}
	if got := count(50, begin); got != readsPerPerson {
		t.Errorf("%d at once, want %d", got, readsPerPerson)
	}
	if p := api.AsProblem(begin()); p.Kind != api.KindRateLimited || p.RetrySecs < 1 {
		t.Errorf("problem %+v", p)
	}
	if _, err := l.read(bob); err != nil {
		t.Errorf("another person: %v", err)
	}
	if _, err := l.read(state.Session{Kind: state.KindMachine, Issuer: issuer, Subject: "alice"}); err != nil {
		t.Errorf("a machine: %v", err)
	}
	done[3]()
	done[3]() // makes room once
	if got := count(50, begin); got != 1 {
		t.Errorf("%d more when one has ended", got)
	}
	for _, end := range done {
		end()
	}
	if len(l.reading) != 1 { // bob's
		t.Errorf("left are %v", l.reading)
	}
}

// TestReadsAreBounded: streams that follow, and what else reads the log, count until they have ended.
func TestReadsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.setPolicy(readPolicies)
	p := w.as("carol", "reviewers")
	var tails []*tail
	for range readsPerPerson {
		tails = append(tails, p.tail(t, "user:nobody"))
	}
	for _, path := range []string{eventsPath("user:nobody"), api.RouteCount + "?by=kind", api.RouteLog + "?from=0&to=1", api.RouteRollups} {
		if rec := p.do("GET", path, nil); rec.Code != 429 {
			t.Errorf("%s: %d %.200s", path, rec.Code, rec.Body)
		}
	}
	if rec := w.as("dora", "reviewers").do("GET", eventsPath("user:nobody"), nil); rec.Code != 200 {
		t.Errorf("another person: %d %.200s", rec.Code, rec.Body)
	}
	w.s.Drain()
	for _, f := range tails {
		for range f.lines {
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		rec := p.do("GET", eventsPath("user:nobody"), nil)
		if rec.Code == 200 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after the streams' end: %d", rec.Code)
		}
	}
}
