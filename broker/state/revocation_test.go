package state_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"sega/broker/state"
)

// TestRevocationsAfter: the feed reads in the order of the log, in pages, from where it stands.
func TestRevocationsAfter(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		entry := func(index int64) state.Revocation {
			return state.Revocation{Index: index, EventID: "evt", Issuer: issuer, Subject: alice, LoginID: "ses_1", SessionID: "ssh_1", Reason: "x", At: noon.Add(-time.Duration(index) * time.Hour)}
		}
		for _, i := range []int64{7, 0, 3} {
			d.write(func(ctx context.Context, q state.Querier) error { return state.AddRevocation(ctx, q, entry(i)) })
		}
		for name, c := range map[string]struct {
			after int64
			limit int
			want  []state.Revocation
		}{
			"all":           {-1, 10, []state.Revocation{entry(0), entry(3), entry(7)}},
			"a page":        {-1, 2, []state.Revocation{entry(0), entry(3)}},
			"the next page": {3, 2, []state.Revocation{entry(7)}},
			"between":       {5, 2, []state.Revocation{entry(7)}},
			"nothing new":   {7, 2, nil},
		} {
			t.Run(name, func(t *testing.T) {
				want(db{t, d.log}, func(ctx context.Context, q state.Querier) ([]state.Revocation, error) {
					return state.RevocationsAfter(ctx, q, c.after, c.limit)
				}, c.want)
			})
		}
		if err := d.try(func(ctx context.Context, q state.Querier) error { return state.AddRevocation(ctx, q, entry(3)) }); !errors.Is(err, state.ErrExists) {
			t.Errorf("got %v", err)
		}
	})
}

func TestIntents(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		intent := func(action, node string) state.Intent {
			return state.Intent{Action: action, Node: node, Body: []byte(`{"action":"` + action + `"}`)}
		}
		opened := func(node string) func(context.Context, state.Querier) ([]state.Intent, error) {
			return func(ctx context.Context, q state.Querier) ([]state.Intent, error) {
				return state.OpenIntents(ctx, q, node)
			}
		}
		for _, i := range []state.Intent{intent("act_b", "node-1"), intent("act_a", "node-1"), intent("act_c", "node-2")} {
			d.write(func(ctx context.Context, q state.Querier) error { return state.OpenIntent(ctx, q, i) })
		}
		want(d, opened("node-1"), []state.Intent{intent("act_a", "node-1"), intent("act_b", "node-1")})
		if err := d.try(func(ctx context.Context, q state.Querier) error {
			return state.OpenIntent(ctx, q, intent("act_a", "node-2"))
		}); !errors.Is(err, state.ErrExists) {
			t.Errorf("got %v", err)
		}
		d.write(func(ctx context.Context, q state.Querier) error { return state.CloseIntent(ctx, q, "act_a") })
		want(d, opened("node-1"), []state.Intent{intent("act_b", "node-1")})
		want(d, opened("node-2"), []state.Intent{intent("act_c", "node-2")})
	})
}

// TestRecover (R10): nothing that a lost part of the log may have decided stands.
func TestRecover(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		one, out := login("ses_1"), login("ses_out")
		d.write(see(alice, "alice@example.com", "Alice", noon))
		d.write(block("00u-bob", "x"))
		d.write(add(one, out))
		d.write(endOf("ses_out", state.EndedLogout))
		d.write(func(ctx context.Context, q state.Querier) error {
			return errors.Join(state.AddCert(ctx, q, cert("access", 1, one, noon.Add(time.Hour))),
				state.AddGrant(ctx, q, state.Grant{AccessKeyID: "ASIA", Role: "r", Bearer: bearer(one), Expires: noon.Add(time.Hour)}))
		})
		d.reserve("access", 1000)
		d.write(func(ctx context.Context, q state.Querier) error { return state.Recover(ctx, q, noon.Add(time.Minute)) })

		want(d, byID("ses_1"), login("ses_1", func(s *state.Session) { s.Rev, s.Ended, s.EndedWhy = 2, noon.Add(time.Minute), state.EndedRecovery }))
		want(d, byID("ses_out"), login("ses_out", func(s *state.Session) { s.Rev, s.Ended, s.EndedWhy = 2, noon, state.EndedLogout }))
		want(d, subjectOf(alice), state.Subject{Issuer: issuer, Subject: alice, Email: "alice@example.com", Name: "Alice", Epoch: 1000001, Seen: noon})
		want(d, subjectOf("00u-bob"), state.Subject{Issuer: issuer, Subject: "00u-bob", Epoch: 1000002, Blocked: true, BlockedIssuer: "https://other.example", BlockedSub: "00u-sam", BlockedReason: "x"})
		want(d, func(ctx context.Context, q state.Querier) ([]state.Cert, error) {
			return state.CertsOf(ctx, q, issuer, alice, "", noon)
		}, nil)
		want(d, func(ctx context.Context, q state.Querier) ([]state.Grant, error) {
			return state.GrantsOf(ctx, q, issuer, alice, "", noon)
		}, nil)
		era := uint32(noon.Add(time.Minute).Unix() / 60)
		for _, ca := range []string{"access", "hop"} { // the backup did not know the hop CA
			if got := d.reserve(ca, 1); got != (serials{era, 1}) {
				t.Errorf("serials of %s go on with %+v, want a new era", ca, got)
			}
		}
		d.write(func(ctx context.Context, q state.Querier) error { return state.Recover(ctx, q, noon.Add(time.Minute)) })
		// A new era for every CA, for those too that the backup does not know, and another at each recovery.
		first := d.reserve("access", 1)
		if first.Era < 2 || first.First != 1 {
			t.Errorf("serials go on with %+v, want a new era", first)
		}
		if got := d.reserve("hop", 1); got != first {
			t.Errorf("a CA that was not known begins with %+v, want %+v", got, first)
		}
		d.write(func(ctx context.Context, q state.Querier) error { return state.Recover(ctx, q, noon.Add(time.Minute)) })
		if got := d.reserve("access", 1); got.Era <= first.Era || got.First != 1 {
			t.Errorf("after a second recovery in the same minute: %+v", got)
		}
	})
}

// TestMarks: a recovery happens once for each tree that somebody remembers.
func TestMarks(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		known := func(size int64, root string) func(context.Context, state.Querier) (bool, error) {
			return func(ctx context.Context, q state.Querier) (bool, error) { return state.MarkKnown(ctx, q, size, root) }
		}
		use := func() error {
			return d.try(func(ctx context.Context, q state.Querier) error { return state.UseMark(ctx, q, 7, "root") })
		}
		last := func(size int64) func(ctx context.Context, q state.Querier) (bool, error) {
			return func(ctx context.Context, q state.Querier) (bool, error) {
				n, err := state.LastMark(ctx, q)
				return n == size, err
			}
		}
		want(d, last(0), true)
		want(d, known(7, "root"), false)
		if err := use(); err != nil {
			t.Fatal(err)
		}
		want(d, known(7, "root"), true)
		want(d, known(7, "another"), false)
		want(d, known(8, "root"), false)
		want(d, last(7), true)
		if err := use(); !errors.Is(err, state.ErrExists) {
			t.Errorf("got %v", err)
		}
	})
}
