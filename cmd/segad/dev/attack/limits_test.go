//go:build linux

package attack

import (
	"net/http"
	"testing"
	"time"

	"sega/audit"
	"sega/broker"
	"sega/broker/api"
)

// TestForwardedAddresses: X-Forwarded-For counts from listed networks only (R13).
func TestForwardedAddresses(t *testing.T) {
	for name, tc := range map[string]struct {
		proxies []string
		peer    string
		header  string
		want    string
	}{
		"no proxies":                 {nil, "127.0.0.1:9", "203.0.113.9", "127.0.0.1"},
		"another network's":          {[]string{"10.0.0.0/8"}, "127.0.0.1:9", "203.0.113.9", "127.0.0.1"},
		"a listed proxy":             {[]string{"127.0.0.0/8"}, "127.0.0.1:9", "203.0.113.9", "203.0.113.9"},
		"a client that pretends":     {[]string{"127.0.0.0/8"}, "127.0.0.1:9", "198.51.100.1, 203.0.113.9", "203.0.113.9"},
		"through two listed proxies": {[]string{"127.0.0.0/8", "10.0.0.0/8"}, "127.0.0.1:9", "198.51.100.1, 203.0.113.9, 10.1.1.1", "203.0.113.9"},
		"a proxy that is not listed": {[]string{"127.0.0.0/8"}, "127.0.0.1:9", "203.0.113.9, 10.1.1.1", "10.1.1.1"},
		"garbage":                    {[]string{"127.0.0.0/8"}, "127.0.0.1:9", "203.0.113.9, unknown", "127.0.0.1"},
		"a header that is empty":     {[]string{"127.0.0.0/8"}, "127.0.0.1:9", "", "127.0.0.1"},
		"IPv4 in IPv6":               {[]string{"127.0.0.0/8"}, "[::ffff:127.0.0.1]:9", "::ffff:203.0.113.9", "203.0.113.9"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(_ *world, c *broker.Config) { c.TrustedProxies = prefixes(tc.proxies...) })
			s := get(api.RouteSession, newHolder(t), "sega_ses_x")
			s.header = map[string]string{"X-Forwarded-For": tc.header, "Forwarded": "for=198.51.100.99", "X-Real-Ip": "198.51.100.99"}
			before := w.size()
			w.refused(w.sendFrom(tc.peer, s), api.KindUnauthenticated)
			if e := w.only(before, "request.refuse", audit.Denied); e.Source != tc.want {
				t.Errorf("source %q, want %q", e.Source, tc.want)
			}
		})
	}
}

// TestRefusalFlood: a stranger's attempts are refused with 429 beyond his budget, and write no event each.
func TestRefusalFlood(t *testing.T) {
	const budget = 5
	for name, flood := range map[string]struct {
		shot  func(w *world) func() shot
		first api.Kind
	}{
		"bad proofs": {func(w *world) func() shot {
			key := newHolder(w.t)
			return func() shot {
				s := get(api.RouteSession, key, "sega_ses_x")
				s.proofs = []string{"garbage"}
				return s
			}
		}, api.KindUnauthenticated},
		"stolen tokens": {func(w *world) func() shot {
			key := newHolder(w.t)
			return func() shot { return get(api.RouteSession, key, "sega_ses_x") }
		}, api.KindUnauthenticated},
		"failed logins": {func(w *world) func() shot {
			f := w.fresh("alice@example.com")
			return func() shot { return f.shot("garbage") }
		}, api.KindUnauthenticated},
		"join tokens": {func(w *world) func() shot {
			return func() shot { return enroll(newHolder(w.t), api.NewToken(api.PrefixJoin), bastionName) }
		}, api.KindDenied},
		"unknown machines": {func(w *world) func() shot {
			return func() shot { return post(api.RouteMachine, newHolder(w.t), "", api.Empty{}) }
		}, api.KindUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(_ *world, c *broker.Config) {
				c.Limits.RefusalRate, c.Limits.RefusalBurst, c.Limits.StrangerRate, c.Limits.StrangerBurst = 1, budget, 1, budget
			})
			next := flood.shot(w)
			w.clock.freeze()
			before := w.size()
			for i := range 4 * budget {
				a := w.send(next())
				if i < budget {
					w.refused(a, flood.first)
					continue
				}
				w.refused(a, api.KindRateLimited)
				if a.header.Get("Retry-After") == "" && a.problem.Hint == "" {
					t.Error("429 without advice")
				}
			}
			if got := w.since(before); len(got) != budget {
				t.Errorf("%d events, want %d", len(got), budget)
			}
			w.refused(w.sendFrom("192.0.2.44:1", next()), flood.first) // another address has its own budget
			w.clock.add(time.Second)
			w.refused(w.send(next()), flood.first)
		})
	}
}

// TestAddressFlood: beyond its rate an address is answered 429 before anything is looked at.
func TestAddressFlood(t *testing.T) {
	w := newWorld(t)
	alice := w.login("alice")
	limited := newWorld(t, func(_ *world, c *broker.Config) { c.Limits.AddressRate, c.Limits.AddressBurst = 1, 10 })
	limited.clock.freeze()
	before, codes := limited.size(), map[int]int{}
	for range 40 {
		codes[limited.sendFrom("203.0.113.7:1", get(api.RouteConfiguration, nil, "")).code]++
	}
	if codes[http.StatusOK] != 10 || codes[http.StatusTooManyRequests] != 30 || limited.size() != before {
		t.Errorf("answers %v, %d events", codes, limited.size()-before)
	}
	if a := limited.sendFrom("[2001:db8::1]:1", get(api.RouteConfiguration, nil, "")); a.code != http.StatusOK {
		t.Errorf("another address: HTTP %d", a.code)
	}
	codes = map[int]int{}
	for _, host := range []string{"[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8::ffff]:1", "[2001:db8::4]:1", "[2001:db8::5]:1"} {
		for range 3 {
			codes[limited.sendFrom(host, get(api.RouteConfiguration, nil, "")).code]++
		}
	}
	if codes[http.StatusOK] != 9 || codes[http.StatusTooManyRequests] != 6 {
		t.Errorf("addresses of one network have budgets of their own: %v", codes)
	}
	alice.stillIn()
}

// TestSubjectFlood: one person's requests are bounded wherever they come from; another's are not touched.
func TestSubjectFlood(t *testing.T) {
	w := newWorld(t, func(_ *world, c *broker.Config) { c.Limits.SubjectRate, c.Limits.SubjectBurst = 1, 10 })
	alice, bob := w.login("alice"), w.login("bob")
	w.clock.freeze()
	codes := map[int]int{}
	for i := range 30 {
		s := alice.credentials()
		if i%2 == 0 {
			codes[w.send(s).code]++
			continue
		}
		codes[w.sendFrom("203.0.113.7:1", s).code]++
	}
	if codes[http.StatusOK] != 10 || codes[http.StatusTooManyRequests] != 20 || w.sts.AssumeRoleCalls() != 10 {
		t.Errorf("answers %v, %d calls of AWS", codes, w.sts.AssumeRoleCalls())
	}
	bob.stillIn()
}
