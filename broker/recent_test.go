package broker

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// ask asks for an access certificate of a new key.
func (p caller) askCertificate() *httptest.ResponseRecorder {
	p.w.t.Helper()
	return p.do("POST", api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(sshKey(p.w.t))})
}

// certificates is how many certificates have a record.
func (w *world) certificates() (n int) {
	w.t.Helper()
	w.read(func(ctx context.Context, q store.Querier) error {
		return q.QueryRowContext(ctx, `SELECT count(*) FROM certs`).Scan(&n)
	})
	return n
}

// changes are what may become of alice's session, or of her, whoever writes it into the database.
var changes = map[string]func(ctx context.Context, tx store.Tx, alice state.Session) error{
	"nothing":   func(context.Context, store.Tx, state.Session) error { return nil },
	"revoked":   ends(state.EndedRevoked),
	"logout":    ends(state.EndedLogout),
	"recovered": func(ctx context.Context, tx store.Tx, _ state.Session) error { return state.Recover(ctx, tx, start) },
	"blocked": func(ctx context.Context, tx store.Tx, alice state.Session) error {
		return state.BlockSubject(ctx, tx, alice.Issuer, alice.Subject, issuer, "sam", "stolen")
	},
	"unblocked": func(ctx context.Context, tx store.Tx, alice state.Session) error {
		if err := state.BlockSubject(ctx, tx, alice.Issuer, alice.Subject, issuer, "sam", "stolen"); err != nil {
			return err
		}
		return state.UnblockSubject(ctx, tx, alice.Issuer, alice.Subject)
	},
	"renewed": func(ctx context.Context, tx store.Tx, alice state.Session) error {
		return state.RenewSession(ctx, tx, alice.ID, hashToken(api.NewToken(api.PrefixSession)), alice.Groups, alice.Expires)
	},
	"fewer groups":  becomes(`groups='["others"]'`),
	"no MFA":        becomes(`mfa=0`),
	"another key":   becomes(`thumbprint='other'`),
	"expired":       becomes(`expires=1`),
	"over":          becomes(`not_after=1`),
	"another kind":  becomes(`kind='key'`),
	"of somebody":   becomes(`sub='mallory'`),
	"older login":   becomes(`auth_time=1`),
	"forgotten":     func(ctx context.Context, tx store.Tx, a state.Session) error { return forget(ctx, tx, a) },
	"another token": becomes(`token_hash=` + "x'00'"),
}

func ends(why string) func(context.Context, store.Tx, state.Session) error {
	return func(ctx context.Context, tx store.Tx, alice state.Session) error {
		return state.EndSession(ctx, tx, alice.ID, why, start)
	}
}

func becomes(set string) func(context.Context, store.Tx, state.Session) error {
	return func(ctx context.Context, tx store.Tx, alice state.Session) error {
		_, err := tx.ExecContext(ctx, `UPDATE sessions SET `+set+` WHERE id=?`, alice.ID)
		return err
	}
}

func forget(ctx context.Context, tx store.Tx, alice state.Session) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE id=?`, alice.ID)
	return err
}

// TestRememberedSession (I3, R4): a broker that remembers a session answers, and writes into the log, what one answers that
// has just started, whatever has become of the session in the database.
func TestRememberedSession(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			var got [2]string
			for i, forgets := range []bool{false, true} {
				w := newWorld(t)
				alice := w.login()
				alice.certificate()
				w.write(func(ctx context.Context, tx store.Tx) error { return change(ctx, tx, alice.session) })
				if forgets {
					w.restart()
				}
				before, issued := len(w.trail()), w.certificates()
				rec := alice.askCertificate()
				got[i] = fmt.Sprint(rec.Code, w.trail()[before:], w.certificates()-issued)
				if rec.Code != 200 {
					p := problemOf(t, rec)
					got[i] += fmt.Sprint(p.Kind, p.Detail, w.events()[before].Actor)
				}
				if released := rec.Code == 200; released != slices.Contains([]string{"nothing", "older login", "of somebody"}, name) {
					t.Errorf("answered with %d %s", rec.Code, rec.Body)
				}
			}
			if diff := cmp.Diff(got[1], got[0]); diff != "" {
				t.Errorf("a broker that remembers answers otherwise (-forgets +remembers)\n%s", diff)
			}
		})
	}
}

// TestSessionChangesBeforeCommit: what comes between the decision and the commit wins over both a remembered session and one that
// was read a moment ago.
func TestSessionChangesBeforeCommit(t *testing.T) {
	for _, name := range []string{"revoked", "logout", "recovered", "blocked", "unblocked"} {
		for _, remembers := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, remembered %v", name, remembers), func(t *testing.T) {
				w := newWorld(t)
				alice := w.login()
				if remembers {
					alice.certificate()
				}
				issued, changed := w.certificates(), false
				w.log.on(func(events []audit.Event) error {
					if len(events) == 0 || events[0].Kind != "ssh.cert" || changed {
						return nil
					}
					changed = true
					w.write(func(ctx context.Context, tx store.Tx) error { return changes[name](ctx, tx, alice.session) })
					return nil
				})
				if rec := alice.askCertificate(); rec.Code == 200 || !changed {
					t.Errorf("changed %v, and answered with %d %s", changed, rec.Code, rec.Body)
				}
				if n := w.certificates(); n > issued {
					t.Errorf("%d certificates more", n-issued)
				}
			})
		}
	}
}

// TestRevokedAtTheOther: each of two brokers on a database remembers the session, and the other one's revocation wins.
func TestRevokedAtTheOther(t *testing.T) {
	a, b := pair(t)
	b.config.Times = DefaultTimes()
	b.config.Times.RevokeWait = time.Millisecond // no bastion follows
	b.restart()
	alice, sam := a.signIn(), a.login(func(s *state.Session) { s.Subject, s.Email = "sam", "sam@example.com" })
	for range 2 {
		alice.certificate()
		alice.at(b).certificate()
	}
	issued := a.certificates()
	sam.at(b).want(200, "POST", api.RouteRevoke, api.RevokeRequest{Subject: "user", ID: "alice@example.com", Reason: "stolen"}, nil)
	for _, w := range []*world{a, b} {
		if p := problemOf(t, alice.at(w).askCertificate()); p.Kind != api.KindRevoked || p.Detail != "access was revoked: stolen" {
			t.Errorf("%s answers %+v", w.config.Node, p)
		}
		if trail := w.trail(); trail[len(trail)-1] != "request.refuse revoked" {
			t.Errorf("%s: the log ends with %s", w.config.Node, trail[len(trail)-1])
		}
	}
	if n := a.certificates(); n != issued {
		t.Errorf("%d certificates after the revocation", n-issued)
	}
}

// TestRememberedSessionIsNotRead: remembering is what it is for, it ends, and it is bounded.
func TestRememberedSessionIsNotRead(t *testing.T) {
	reads := &countingLog{}
	w := newWorld(t, func(c *Config) { reads.Log, c.Log = c.Log, reads })
	alice := w.login()
	alice.certificate()
	before := reads.n
	alice.certificate()
	if n := reads.n - before; n != 0 {
		t.Errorf("%d reads for a certificate of a remembered session", n)
	}
	w.clock.add(time.Hour + time.Second) // it has expired, and that is looked up
	if p := problemOf(t, alice.askCertificate()); p.Kind != api.KindUnauthenticated || reads.n == before {
		t.Errorf("an expired session gets %+v after %d reads", p, reads.n-before)
	}
	var r recent
	for i := range 3 * recentSessions {
		r.put(state.Session{TokenHash: hashToken(api.NewToken(api.PrefixSession)), Rev: int64(i)})
	}
	if len(r.sessions) > recentSessions {
		t.Errorf("%d sessions are remembered", len(r.sessions))
	}
}
