package state_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/state"
)

// TestCurrent (R4) goes through everything that can happen between two readings of the counters.
func TestCurrent(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		machine := login("ses_1", func(s *state.Session) { s.Kind, s.Issuer, s.Subject = state.KindMachine, "sega:machines", "mch_1" })
		for name, c := range map[string]struct {
			session state.Session
			meant   state.Bearer
			seen    bool // there is a record of the subject
			then    func(context.Context, state.Querier) error
			want    bool
		}{
			"stands":             {session: login("ses_1"), meant: bearer(login("ses_1")), seen: true, want: true},
			"unknown session":    {session: login("ses_1"), meant: state.Bearer{LoginID: "ses_2", Issuer: issuer, Subject: alice, Epoch: 1, Rev: 1}, seen: true},
			"no session":         {session: login("ses_1"), meant: state.Bearer{Issuer: issuer, Subject: alice, Epoch: 1, Rev: 1}, seen: true},
			"older revision":     {session: login("ses_1", func(s *state.Session) { s.Rev = 2 }), meant: bearer(login("ses_1")), seen: true},
			"of another epoch":   {session: login("ses_1", func(s *state.Session) { s.Epoch = 2 }), meant: bearer(login("ses_1")), seen: true},
			"session of before":  {session: login("ses_1"), meant: bearer(login("ses_1")), seen: true, then: block(alice, "x")},
			"machine":            {session: machine, meant: bearer(machine), want: true},
			"machine, replaced":  {session: machine, meant: bearer(machine), then: endOf("ses_1", state.EndedReplaced)},
			"logged out":         {session: login("ses_1"), meant: bearer(login("ses_1")), seen: true, then: endOf("ses_1", state.EndedLogout)},
			"another logged out": {session: login("ses_1"), meant: bearer(login("ses_1")), seen: true, then: endOf("ses_2", state.EndedLogout), want: true},
			"revoked and unblocked": {session: login("ses_1"), meant: bearer(login("ses_1")), seen: true, then: func(ctx context.Context, q state.Querier) error {
				return errors.Join(block(alice, "x")(ctx, q), state.UnblockSubject(ctx, q, issuer, alice))
			}},
			"machine, blocked": {session: machine, meant: bearer(machine), then: func(ctx context.Context, q state.Querier) error {
				return state.BlockSubject(ctx, q, "sega:machines", "mch_1", issuer, "00u-sam", "x")
			}},
			"blocked though the epoch fits": {session: login("ses_1", func(s *state.Session) { s.Epoch = 2 }),
				meant: bearer(login("ses_1", func(s *state.Session) { s.Epoch = 2 })), then: block(alice, "x")},
			"renewed": {session: login("ses_1"), meant: bearer(login("ses_1")), seen: true, want: true, then: func(ctx context.Context, q state.Querier) error {
				return state.RenewSession(ctx, q, "ses_1", []byte("new"), nil, noon.Add(time.Hour))
			}},
			"recovered": {session: login("ses_1"), meant: bearer(login("ses_1")), seen: true, then: func(ctx context.Context, q state.Querier) error {
				return state.Recover(ctx, q, noon)
			}},
		} {
			t.Run(name, func(t *testing.T) {
				d := open(t)
				if c.seen {
					d.write(see(alice, "alice@example.com", "Alice", noon))
				}
				d.write(add(c.session))
				if c.then != nil {
					d.write(c.then)
				}
				want(d, func(ctx context.Context, q state.Querier) (bool, error) { return state.Current(ctx, q, c.meant) }, c.want)
			})
		}
	})
}

func endOf(id, why string) func(context.Context, state.Querier) error {
	return func(ctx context.Context, q state.Querier) error { return state.EndSession(ctx, q, id, why, noon) }
}

func cert(profile string, serial uint64, s state.Session, before time.Time) state.Cert {
	return state.Cert{Serial: serial, Profile: profile, Bearer: bearer(s), Fingerprint: "SHA256:f", Digest: "d", ValidBefore: before}
}

// TestCerts: serials are each CA's own, above 2⁶³ too, and are taken once.
func TestCerts(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		one, two := login("ses_1"), login("ses_2")
		access := cert("access", math.MaxUint64, one, noon.Add(2*time.Minute))
		hop := cert("hop", math.MaxUint64, two, noon.Add(time.Minute))
		gone := cert("access", 1, one, noon)
		bob := cert("access", 2, login("ses_3", func(s *state.Session) { s.Subject = "00u-bob" }), noon.Add(time.Hour))
		addCert := func(c state.Cert) error {
			return d.try(func(ctx context.Context, q state.Querier) error { return state.AddCert(ctx, q, c) })
		}
		for _, c := range []state.Cert{access, hop, gone, bob} {
			if err := addCert(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := addCert(cert("access", math.MaxUint64, two, noon)); !errors.Is(err, state.ErrExists) {
			t.Errorf("a serial was given twice: %v", err)
		}
		bySerial := func(profile string, serial uint64) func(context.Context, state.Querier) (state.Cert, error) {
			return func(ctx context.Context, q state.Querier) (state.Cert, error) {
				return state.CertBySerial(ctx, q, profile, serial)
			}
		}
		want(d, bySerial("access", math.MaxUint64), access)
		want(d, bySerial("hop", math.MaxUint64), hop)
		wantErr(d, bySerial("hop", 1), state.ErrNotFound)
		wantErr(d, bySerial("front", math.MaxUint64), state.ErrNotFound)
		of := func(loginID string) func(context.Context, state.Querier) ([]state.Cert, error) {
			return func(ctx context.Context, q state.Querier) ([]state.Cert, error) {
				return state.CertsOf(ctx, q, issuer, alice, loginID, noon)
			}
		}
		want(d, of(""), []state.Cert{hop, access})
		want(d, of("ses_1"), []state.Cert{access})
		want(d, of("ses_3"), nil)
	})
}

func TestGrants(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		grant := func(key string, s state.Session, expires time.Time) state.Grant {
			return state.Grant{AccessKeyID: key, Role: "dev-admin", Bearer: bearer(s), Expires: expires}
		}
		late, soon := grant("ASIALATE", login("ses_1"), noon.Add(time.Hour)), grant("ASIASOON", login("ses_2"), noon.Add(time.Minute))
		gone := grant("ASIAGONE", login("ses_1"), noon)
		bob := grant("ASIABOB", login("ses_3", func(s *state.Session) { s.Subject = "00u-bob" }), noon.Add(time.Hour))
		for _, g := range []state.Grant{late, soon, gone, bob} {
			d.write(func(ctx context.Context, q state.Querier) error { return state.AddGrant(ctx, q, g) })
		}
		if err := d.try(func(ctx context.Context, q state.Querier) error { return state.AddGrant(ctx, q, late) }); !errors.Is(err, state.ErrExists) {
			t.Errorf("got %v", err)
		}
		byKey := func(key string) func(context.Context, state.Querier) (state.Grant, error) {
			return func(ctx context.Context, q state.Querier) (state.Grant, error) { return state.GrantByKey(ctx, q, key) }
		}
		of := func(loginID string) func(context.Context, state.Querier) ([]state.Grant, error) {
			return func(ctx context.Context, q state.Querier) ([]state.Grant, error) {
				return state.GrantsOf(ctx, q, issuer, alice, loginID, noon)
			}
		}
		want(d, byKey("ASIALATE"), late)
		want(d, byKey("ASIAGONE"), gone)
		wantErr(d, byKey("asialate"), state.ErrNotFound)
		want(d, of(""), []state.Grant{soon, late})
		want(d, of("ses_2"), []state.Grant{soon})
	})
}

// TestTerms: how a grant came about is read back as it was, and goes with it.
func TestTerms(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		terms := map[string]state.Terms{
			"ASIAPLAIN": {}, "ASIACHAIN": {Through: []string{"dev-admin", `b"\\`}}, "ASIAREAD": {ReadOnly: true, Narrowed: true},
			"ASIANARROW": {Narrowed: true}, "ASIACONSOLE": {Through: []string{"dev-admin"}, Console: true},
		}
		for key, v := range terms {
			d.write(func(ctx context.Context, q state.Querier) error {
				return state.AddGrant(ctx, q, state.Grant{AccessKeyID: key, Role: "r", Bearer: bearer(login("ses_1")), Expires: noon.Add(time.Hour), Terms: v})
			})
		}
		for key, v := range terms {
			want(d, func(ctx context.Context, q state.Querier) (state.Terms, error) {
				g, err := state.GrantByKey(ctx, q, key)
				return g.Terms, err
			}, v)
		}
		all := func(ctx context.Context, q state.Querier) (n int, err error) {
			grants, err := state.GrantsOf(ctx, q, issuer, alice, "", noon)
			for _, g := range grants {
				if !cmp.Equal(g.Terms, terms[g.AccessKeyID]) {
					t.Errorf("%s has the terms %+v", g.AccessKeyID, g.Terms)
				}
			}
			return len(grants), err
		}
		want(d, all, len(terms))
		rows := func(ctx context.Context, q state.Querier) (n int, err error) {
			return n, q.QueryRowContext(ctx, `SELECT count(*) FROM grant_terms`).Scan(&n)
		}
		want(d, rows, 4)
		d.write(func(ctx context.Context, q state.Querier) error {
			return state.DropExpired(ctx, q, noon.Add(time.Hour))
		})
		want(d, rows, 4)
		d.write(func(ctx context.Context, q state.Querier) error {
			return state.DropExpired(ctx, q, noon.Add(time.Hour+time.Millisecond))
		})
		want(d, rows, 0)
	})
}

// TestDropExpired forgets certificates and grants of before a time, and nothing else.
func TestDropExpired(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		kept := cert("access", 2, login("ses_1"), noon)
		d.write(func(ctx context.Context, q state.Querier) error {
			return errors.Join(state.AddCert(ctx, q, cert("access", 1, login("ses_1"), noon.Add(-time.Millisecond))), state.AddCert(ctx, q, kept),
				state.AddGrant(ctx, q, state.Grant{AccessKeyID: "OLD", Bearer: bearer(login("ses_1")), Expires: noon.Add(-time.Millisecond)}),
				state.AddGrant(ctx, q, state.Grant{AccessKeyID: "KEPT", Bearer: bearer(login("ses_1")), Expires: noon}))
		})
		d.write(func(ctx context.Context, q state.Querier) error { return state.DropExpired(ctx, q, noon) })
		long := noon.Add(-time.Hour)
		want(d, func(ctx context.Context, q state.Querier) ([]state.Cert, error) {
			return state.CertsOf(ctx, q, issuer, alice, "", long)
		}, []state.Cert{kept})
		want(d, func(ctx context.Context, q state.Querier) ([]state.Grant, error) {
			return state.GrantsOf(ctx, q, issuer, alice, "", long)
		}, []state.Grant{{AccessKeyID: "KEPT", Bearer: bearer(login("ses_1")), Expires: noon}})
	})
}

type serials struct{ Era, First uint32 }

func (d db) reserve(ca string, n int) (s serials) {
	d.t.Helper()
	d.write(func(ctx context.Context, q state.Querier) (err error) {
		s.Era, s.First, err = state.ReserveSerials(ctx, q, ca, n)
		return err
	})
	return s
}

// TestReserveSerials: blocks never overlap; one that does not fit into the era begins the next.
func TestReserveSerials(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		for name, c := range map[string]struct {
			blocks []int
			want   []serials
		}{
			"one after the other": {[]int{1000, 1000, 1}, []serials{{1, 1}, {1, 1001}, {1, 2001}}},
			"up to the last":      {[]int{math.MaxUint32 - 1000, 1000, 1}, []serials{{1, 1}, {1, math.MaxUint32 - 999}, {2, 1}}},
			"one too many":        {[]int{math.MaxUint32 - 1000, 1001, 1}, []serials{{1, 1}, {2, 1}, {2, 1002}}},
		} {
			t.Run(name, func(t *testing.T) {
				d := open(t)
				for i, n := range c.blocks {
					if got := d.reserve("access", n); got != c.want[i] {
						t.Errorf("block %d is %+v, want %+v", i, got, c.want[i])
					}
				}
				if got := d.reserve("hop", 10); got != (serials{1, 1}) {
					t.Errorf("another CA begins with %+v", got)
				}
			})
		}
	})
}
