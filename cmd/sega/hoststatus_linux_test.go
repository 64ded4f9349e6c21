package main

import (
	"strings"
	"testing"
	"time"

	"sega/cmd/sega/host"
)

// TestHostStatusWithoutBroker: what a host goes by while its broker is away, and until when.
func TestHostStatusWithoutBroker(t *testing.T) {
	since, until := time.Date(2026, 7, 1, 10, 0, 0, 0, time.UTC), time.Date(2026, 7, 20, 10, 0, 0, 0, time.UTC)
	lost := host.Status{Name: "db-1", Broker: "https://sega.example", Daemon: true, Version: 5, Confirmed: since, Age: "3m0s", Lost: since, LostWhy: "connection\x1b refused", Certificate: until}
	with := func(change func(*host.Status)) host.Status {
		s := lost
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		s         host.Status
		want, not []string
	}{
		"as root":             {lost, []string{"broker lost", "since " + stamp(since) + ": connection", "until the broker answers; the host's certificate, until " + stamp(until)}, []string{"\x1b"}},
		"as another":          {with(func(s *host.Status) { s.LostWhy = "" }), []string{"since " + stamp(since), "root sees why"}, nil},
		"the broker is there": {with(func(s *host.Status) { s.Lost = time.Time{} }), []string{"answers"}, []string{"broker lost", "holds meanwhile"}},
		"plain keys":          {with(func(s *host.Status) { s.PlainKeys = true }), []string{"nothing: keys come from the broker"}, []string{"until the broker answers"}},
		"a broken bundle":     {with(func(s *host.Status) { s.Fault = "the bundle is broken" }), []string{"holds meanwhile", "nothing"}, []string{"until the broker answers"}},
		"revoked":             {with(func(s *host.Status) { s.Blocked = true }), []string{"every login is refused"}, []string{"holds meanwhile"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := showHost(&out, c.s); err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is not in\n%s", want, out.String())
				}
			}
			for _, not := range c.not {
				if strings.Contains(out.String(), not) {
					t.Errorf("%q is in\n%s", not, out.String())
				}
			}
		})
	}
}
