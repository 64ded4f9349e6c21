package broker

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/sshca"
)

func TestSessionLimitsJudge(t *testing.T) {
	prod, dev := map[string]string{"env": "prod"}, map[string]string{"env": "dev"}
	own := func(labels ...map[string]string) (out []state.SSHSession) {
		for i, l := range labels {
			out = append(out, state.SSHSession{ID: "ssh_" + string(rune('a'+i)), Login: "deploy", Host: "web-1", Labels: l, Started: time.Date(2030, 1, 2, 12, i, 0, 0, time.UTC)})
		}
		return out
	}
	limits := SessionLimits{PerPerson: 3, PerHost: 5, ByLabel: []LabelLimits{{Labels: prod, PerPerson: 1, PerHost: 2}}}
	for name, c := range map[string]struct {
		limits SessionLimits
		host   map[string]string
		own    []state.SSHSession
		on     int
		want   string // "" : admitted
	}{
		"nothing open":                 {limits, dev, nil, 0, ""},
		"one below each":               {limits, dev, own(dev, dev), 4, ""},
		"person at the limit":          {limits, dev, own(dev, prod, nil), 0, "the limit of SSH sessions at once is 3 for a person; you have open: ssh_a (deploy@web-1 since 12:00 UTC), ssh_b (deploy@web-1 since 12:01 UTC), ssh_c (deploy@web-1 since 12:02 UTC)"},
		"host at the limit":            {limits, dev, nil, 5, "the limit of SSH sessions at once is 5 for a host; none of them is yours"},
		"label, person at the limit":   {limits, prod, own(dev, prod), 0, "the limit of SSH sessions at once is 1 for a person on hosts with env=prod; you have open: ssh_b (deploy@web-1 since 12:01 UTC)"},
		"label, other hosts count not": {limits, prod, own(dev, dev), 1, ""},
		"label, host at the limit":     {limits, prod, own(dev), 2, "the limit of SSH sessions at once is 2 for a host with env=prod; you have open: ssh_a (deploy@web-1 since 12:00 UTC)"},
		"unknown labels count not":     {limits, prod, own(nil), 0, ""},
		"no limits":                    {SessionLimits{}, prod, own(prod, prod, prod, prod), 900, ""},
		"many are counted":             {SessionLimits{PerPerson: 2}, dev, own(dev, dev, dev, dev, dev, dev, dev), 0, "2 for a person; you have open: ssh_a (deploy@web-1 since 12:00 UTC), ssh_b (deploy@web-1 since 12:01 UTC), ssh_c (deploy@web-1 since 12:02 UTC), ssh_d (deploy@web-1 since 12:03 UTC), ssh_e (deploy@web-1 since 12:04 UTC) and 2 more"},
	} {
		t.Run(name, func(t *testing.T) {
			p := c.limits.judge(c.host, c.own, c.on)
			switch {
			case c.want == "" && p != nil:
				t.Errorf("refused: %s", p.Detail)
			case c.want != "" && (p == nil || p.Kind != api.KindDenied || !strings.HasSuffix(p.Detail, c.want) || !strings.Contains(p.Hint, "sega sessions")):
				t.Errorf("got %+v, want %s", p, c.want)
			}
		})
	}
}

func TestSessionLimitsAreChecked(t *testing.T) {
	for name, l := range map[string]SessionLimits{
		"negative":          {PerPerson: -1},
		"without a number":  {ByLabel: []LabelLimits{{Labels: map[string]string{"a": "b"}, PerHost: 1}, {Labels: map[string]string{"env": "prod"}}}},
		"negative by label": {ByLabel: []LabelLimits{{Labels: map[string]string{"a": "b"}, PerHost: -1}}},
		"no label":          {ByLabel: []LabelLimits{{PerHost: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config.Sessions = l
			if _, err := New(t.Context(), w.config); err == nil || !strings.Contains(err.Error(), "session limit") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestSessionLimitRaced has fifty connections at once, over two bastions and two brokers of one database,
// ask for the last places: exactly as many get one as there are.
func TestSessionLimitRaced(t *testing.T) {
	const limit, tries = 7, 50
	for name, two := range map[string]func(t *testing.T) (*world, *world){
		"one broker, sqlite":    func(t *testing.T) (*world, *world) { w := openWorld(t, onSQLite); return w, w },
		"two brokers, postgres": pair,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := two(t)
			for _, w := range []*world{a, b} {
				w.s.Sessions = SessionLimits{PerPerson: limit}
				w.s.Config.Bastions = append(slices.Clone(w.s.Config.Bastions[:1]), Bastion{Name: "bastion-2", Egress: []string{"192.0.2.10/32"}})
			}
			cert := a.signIn().certificate()
			bastions := []caller{a.machine(), a.login(func(s *state.Session) {
				s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, "mch_2", "bastion-2"
			}).at(b)}
			var wg sync.WaitGroup
			codes := make([]int, tries)
			for i := range tries {
				wg.Go(func() {
					codes[i] = bastions[i%2].do("POST", api.RouteHop, hopOf(t, cert)).Code
				})
			}
			wg.Wait()
			slices.Sort(codes)
			want := append(slices.Repeat([]int{http.StatusOK}, limit), slices.Repeat([]int{http.StatusForbidden}, tries-limit)...)
			if diff := cmp.Diff(want, codes); diff != "" {
				t.Error(diff)
			}
			open, err := a.open("alice")
			if err != nil || len(open) != limit {
				t.Errorf("%d are open, %v", len(open), err)
			}
			denied, events := 0, a.events()
			if all := b.events(); len(all) > len(events) { // who appended last knows of all that the other has
				events = all
			}
			for _, e := range events {
				if e.Kind == "ssh.hop" && e.Outcome == audit.Denied {
					denied++
				}
			}
			if denied != tries-limit {
				t.Errorf("%d denials are in the log, want %d", denied, tries-limit)
			}
		})
	}
}

func hopOf(t testing.TB, cert *ssh.Certificate) api.HopRequest {
	return api.HopRequest{AccessSerial: cert.Serial, AccessKey: ssh.FingerprintSHA256(cert.Key), Host: "web-1", Login: "deploy",
		Source: "192.0.2.50", HopKey: sshca.MarshalLine(sshKey(t)), Route: "direct"}
}

// open returns the sessions of a person that count.
func (w *world) open(sub string) (open []state.SSHSession, err error) {
	err = w.db.Read(w.t.Context(), func(ctx context.Context, tx store.Querier) error {
		open, err = state.OpenSSHOf(ctx, tx, issuer, sub, w.clock.now(), time.Minute)
		return err
	})
	return open, err
}

// TestSessionLimitIsFreed: an end frees a place, and so does a start of which nobody hears any more.
func TestSessionLimitIsFreed(t *testing.T) {
	w := openWorld(t, onSQLite)
	w.s.Sessions = SessionLimits{PerPerson: 1}
	cert, bastion := w.signIn().certificate(), w.machine()
	first := bastion.hop(cert, 200)
	bastion.hop(cert, 403)
	bastion.report(first.SessionID, "session.start")
	bastion.hop(cert, 403)
	bastion.report(first.SessionID, "session.end")
	bastion.hop(cert, 200) // of this one nothing is ever heard
	bastion.hop(cert, 403)
	w.clock.add(w.s.Times.HopCert + openingSlack)
	bastion.hop(cert, 200)
}

// TestDeadBastionFreesPlaces: sessions of a bastion count for as long as it may hold them, with one broker and with
// several.
func TestDeadBastionFreesPlaces(t *testing.T) {
	for name, peers := range map[string]bool{"one broker": false, "several": true} {
		t.Run(name, func(t *testing.T) {
			w := openWorld(t, onSQLite)
			w.s.Peers, w.s.Sessions = peers, SessionLimits{PerPerson: 1}
			bastion := w.machine()
			if code, body := bastion.follow(""); code != http.StatusOK { // until the server has drained
				t.Fatalf("%d %s", code, body)
			}
			person := w.signIn()
			bastion.report(bastion.hop(person.certificate(), 200).SessionID, "session.start")
			w.clock.add(w.s.Times.Lease)
			bastion.hop(person.certificate(), 403)
			w.clock.add(w.s.Times.Lease) // that it was given at the latest, and until it is told again
			bastion.hop(person.certificate(), 200)
		})
	}
}

func (p caller) report(session, kind string) {
	p.w.t.Helper()
	p.want(200, "POST", api.RouteReport, []api.Report{{ID: audit.NewID(), Time: p.w.clock.now(), Kind: kind, Outcome: "success", SessionID: session}}, nil)
}

// TestIdleOfPolicy: a session's idle limit is the shorter of the broker's and of the permit's.
func TestIdleOfPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		all, granted time.Duration
		want         int
	}{
		"none":           {0, 0, 0},
		"the broker's":   {time.Hour, 0, 3600},
		"the permit's":   {0, time.Minute, 60},
		"permit shorter": {time.Hour, time.Minute, 60},
		"broker shorter": {time.Minute, time.Hour, 60},
	} {
		t.Run(name, func(t *testing.T) {
			w := openWorld(t, onSQLite)
			text := `@id("all") permit (principal, action, resource);`
			if c.granted > 0 {
				text = `@id("all") @max_idle("` + c.granted.String() + `") permit (principal, action, resource);`
			}
			set, err := policy.Load(fstest.MapFS{"p.cedar": {Data: []byte(text)}})
			w.s.Policy = policy.NewEngine(func() (*policy.Set, error) { return set, err })
			w.s.Times.Idle = c.all
			if got := w.machine().hop(w.signIn().certificate(), 200); got.IdleSeconds != c.want {
				t.Errorf("idle for %d s, want %d", got.IdleSeconds, c.want)
			}
		})
	}
}
