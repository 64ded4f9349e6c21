package state_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"sega/broker/state"
)

func byToken(hash string) func(context.Context, state.Querier) (state.Session, error) {
	return func(ctx context.Context, q state.Querier) (state.Session, error) {
		return state.SessionByToken(ctx, q, []byte(hash))
	}
}

func byID(id string) func(context.Context, state.Querier) (state.Session, error) {
	return func(ctx context.Context, q state.Querier) (state.Session, error) {
		return state.SessionByID(ctx, q, id)
	}
}

func add(all ...state.Session) func(context.Context, state.Querier) error {
	return func(ctx context.Context, q state.Querier) error {
		for _, s := range all {
			if err := state.AddSession(ctx, q, s); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestSessionRoundTrip(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		whole, plain := login("ses_1"), login("ses_2", func(s *state.Session) { s.MFA, s.AuthTime, s.Groups = false, time.Time{}, []string{} })
		d.write(add(whole, plain))
		want(d, byToken("hash of ses_1"), whole)
		want(d, byID("ses_2"), plain)
		wantErr(d, byToken("hash of ses_3"), state.ErrNotFound)
		wantErr(d, byToken(""), state.ErrNotFound)
		wantErr(d, byID(""), state.ErrNotFound)
	})
}

func TestSessionIsUnique(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		d.write(add(login("ses_1")))
		for name, s := range map[string]state.Session{
			"same ID":    login("ses_1", func(s *state.Session) { s.TokenHash = []byte("other") }),
			"same token": login("ses_2", func(s *state.Session) { s.TokenHash = []byte("hash of ses_1") }),
		} {
			t.Run(name, func(t *testing.T) {
				if err := d.try(add(s)); !errors.Is(err, state.ErrExists) {
					t.Errorf("got %v", err)
				}
				want(db{t, d.log}, byID("ses_1"), login("ses_1"))
			})
		}
	})
}

// TestRenewSession: the old token is worth nothing, the new groups count, the counters stay.
func TestRenewSession(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		d.write(add(login("ses_1")))
		renew := func(hash string, groups []string) func(context.Context, state.Querier) error {
			return func(ctx context.Context, q state.Querier) error {
				return state.RenewSession(ctx, q, "ses_1", []byte(hash), groups, noon.Add(2*time.Hour))
			}
		}
		d.write(renew("new", nil))
		renewed := login("ses_1", func(s *state.Session) {
			s.TokenHash, s.Groups, s.Expires = []byte("new"), []string{}, noon.Add(2*time.Hour)
		})
		want(d, byToken("new"), renewed)
		wantErr(d, byToken("hash of ses_1"), state.ErrNotFound)

		d.write(func(ctx context.Context, q state.Querier) error {
			return state.EndSession(ctx, q, "ses_1", state.EndedLogout, noon)
		})
		d.write(renew("back from the dead", []string{"root"}))
		renewed.Rev, renewed.Ended, renewed.EndedWhy = 2, noon, state.EndedLogout
		want(d, byID("ses_1"), renewed)
	})
}

// TestEndSession: it ends once; who ended it first stays in the record.
func TestEndSession(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		d.write(add(login("ses_1"), login("ses_2")))
		end := func(id, why string, at time.Time) {
			d.write(func(ctx context.Context, q state.Querier) error { return state.EndSession(ctx, q, id, why, at) })
		}
		end("ses_1", state.EndedRevoked, noon)
		end("ses_1", state.EndedLogout, noon.Add(time.Minute))
		end("ses_unknown", state.EndedLogout, noon)
		want(d, byToken("hash of ses_1"), login("ses_1", func(s *state.Session) { s.Rev, s.Ended, s.EndedWhy = 2, noon, state.EndedRevoked }))
		want(d, byID("ses_2"), login("ses_2"))
	})
}

func TestEndSessionsOf(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		bob := login("ses_bob", func(s *state.Session) { s.Subject = "00u-bob" })
		foreign := login("ses_foreign", func(s *state.Session) { s.Issuer = "https://other.example" })
		d.write(add(login("ses_1"), login("ses_2"), bob, foreign))
		d.write(func(ctx context.Context, q state.Querier) error {
			return state.EndSession(ctx, q, "ses_2", state.EndedLogout, noon)
		})
		d.write(func(ctx context.Context, q state.Querier) error {
			return state.EndSessionsOf(ctx, q, issuer, alice, state.EndedRevoked, noon.Add(time.Second))
		})
		want(d, byID("ses_1"), login("ses_1", func(s *state.Session) { s.Rev, s.Ended, s.EndedWhy = 2, noon.Add(time.Second), state.EndedRevoked }))
		want(d, byID("ses_2"), login("ses_2", func(s *state.Session) { s.Rev, s.Ended, s.EndedWhy = 2, noon, state.EndedLogout }))
		want(d, byID("ses_bob"), bob)
		want(d, byID("ses_foreign"), foreign)
	})
}

func TestLiveSessions(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		early := login("ses_z", func(s *state.Session) { s.Created = noon.Add(-time.Hour) })
		expired := login("ses_expired", func(s *state.Session) { s.Expires = noon.Add(-time.Minute) }) // renewable still
		over := login("ses_over", func(s *state.Session) { s.NotAfter = noon })
		bob := login("ses_bob", func(s *state.Session) { s.Subject = "00u-bob" })
		foreign := login("ses_foreign", func(s *state.Session) { s.Issuer = "https://other.example" })
		d.write(add(login("ses_b"), login("ses_a"), early, expired, over, bob, foreign, login("ses_ended")))
		d.write(func(ctx context.Context, q state.Querier) error {
			return state.EndSession(ctx, q, "ses_ended", state.EndedLogout, noon)
		})
		live := func(iss, sub string) func(context.Context, state.Querier) ([]state.Session, error) {
			return func(ctx context.Context, q state.Querier) ([]state.Session, error) {
				return state.LiveSessions(ctx, q, iss, sub, noon)
			}
		}
		want(d, live(issuer, alice), []state.Session{early, login("ses_a"), login("ses_b"), expired})
		want(d, live("", ""), []state.Session{early, login("ses_a"), login("ses_b"), bob, expired, foreign})
		want(d, live(issuer, "nobody"), nil)
	})
}

// TestIDTokenOnce (R1): a token opens one session; what has expired is forgotten on the way.
func TestIDTokenOnce(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		use := func(digest string, expires, now time.Time) error {
			return d.try(func(ctx context.Context, q state.Querier) error {
				return state.UseIDToken(ctx, q, digest, expires, now)
			})
		}
		for _, step := range []struct {
			name, digest string
			expires, now time.Time
			want         error
		}{
			{"first", "a", noon.Add(time.Hour), noon, nil},
			{"replayed", "a", noon.Add(time.Hour), noon, state.ErrExists},
			{"another", "b", noon.Add(2 * time.Hour), noon, nil},
			{"replayed at its last moment", "a", noon.Add(time.Hour), noon.Add(time.Hour), state.ErrExists},
			{"forgotten after it", "a", noon.Add(3 * time.Hour), noon.Add(time.Hour + time.Millisecond), nil},
			{"the other is remembered", "b", noon.Add(2 * time.Hour), noon.Add(time.Hour + time.Millisecond), state.ErrExists},
		} {
			t.Run(step.name, func(t *testing.T) {
				if err := use(step.digest, step.expires, step.now); !errors.Is(err, step.want) {
					t.Errorf("got %v, want %v", err, step.want)
				}
			})
		}
		want(d, func(ctx context.Context, q state.Querier) (n int, err error) {
			err = q.QueryRowContext(ctx, `SELECT count(*) FROM id_tokens`).Scan(&n)
			return n, err
		}, 2)
	})
}
