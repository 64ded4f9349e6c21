package state_test

import (
	"context"
	"testing"
	"time"

	"sega/broker/state"
)

// key is a registered key of alice and its session.
func key(id, fingerprint string, change ...func(*state.PersonKey, *state.Session)) (state.PersonKey, state.Session) {
	k := state.PersonKey{ID: id, Issuer: issuer, Subject: alice, Email: "alice@example.com", Name: "laptop", Fingerprint: fingerprint,
		PublicKey: "ssh-ed25519 " + fingerprint, Created: noon, Expires: noon.Add(24 * time.Hour)}
	s := login(id, func(s *state.Session) {
		s.Kind, s.Method, s.MFA, s.Thumbprint, s.NotAfter = state.KindKey, "key", false, fingerprint, k.Expires
	})
	for _, f := range change {
		f(&k, &s)
	}
	return k, s
}

func addKey(k state.PersonKey, s state.Session) func(context.Context, state.Querier) error {
	return func(ctx context.Context, q state.Querier) error { return state.AddKey(ctx, q, k, s) }
}

func liveKeys(sub string, at time.Time) func(context.Context, state.Querier) ([]state.PersonKey, error) {
	return func(ctx context.Context, q state.Querier) ([]state.PersonKey, error) {
		return state.LiveKeys(ctx, q, issuer, sub, at)
	}
}

func TestKeyRoundTrip(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		want(d, state.KeysMoved, 0)
		first, session := key("key_1", "SHA256:one")
		d.write(addKey(first, session))
		second, session := key("key_2", "SHA256:two", func(k *state.PersonKey, s *state.Session) {
			k.Subject, s.Subject, k.Hardware, k.Created = "00u-bob", "00u-bob", true, noon.Add(time.Second)
		})
		d.write(addKey(second, session))
		want(d, state.KeysMoved, 2)
		d.write(func(ctx context.Context, q state.Querier) error {
			return state.UseKey(ctx, q, "key_2", noon.Add(time.Hour))
		})
		second.Used = noon.Add(time.Hour)
		want(d, liveKeys("", noon), []state.PersonKey{first, second})
		want(d, liveKeys("00u-bob", noon), []state.PersonKey{second})
		want(d, liveKeys("00u-carol", noon), nil)
		want(d, func(ctx context.Context, q state.Querier) (state.PersonKey, error) {
			return state.KeyByFingerprint(ctx, q, "SHA256:two")
		}, second)
		wantErr(d, func(ctx context.Context, q state.Querier) (state.PersonKey, error) {
			return state.KeyByFingerprint(ctx, q, "SHA256:three")
		}, state.ErrNotFound)
		want(d, liveKeys("", noon.Add(24*time.Hour)), nil)
	})
}

// TestKeysEndWithTheirSessions: whatever ends a person's sessions ends his keys, and no live list has them.
func TestKeysEndWithTheirSessions(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		for name, end := range map[string]func(context.Context, state.Querier) error{
			"removed": endOf("key_1", state.EndedRemoved),
			"revoked": func(ctx context.Context, q state.Querier) error {
				return state.EndSessionsOf(ctx, q, issuer, alice, state.EndedRevoked, noon)
			},
			"recovered": func(ctx context.Context, q state.Querier) error { return state.Recover(ctx, q, noon) },
		} {
			t.Run(name, func(t *testing.T) {
				d := open(t)
				k, session := key("key_1", "SHA256:one")
				d.write(see(alice, "alice@example.com", "Alice", noon))
				d.write(addKey(k, session))
				stands := func(ctx context.Context, q state.Querier) (bool, error) {
					return state.Current(ctx, q, bearer(session))
				}
				want(d, stands, true)
				d.write(end)
				want(d, stands, false)
				want(d, liveKeys(alice, noon), nil)
				again, session := key("key_3", "SHA256:one")
				d.write(addKey(again, session))
				want(d, liveKeys(alice, noon), []state.PersonKey{again})
			})
		}
	})
}

func TestAddKeyWantsItsOwnSession(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		for name, change := range map[string]func(*state.PersonKey, *state.Session){
			"a login":        func(_ *state.PersonKey, s *state.Session) { s.Kind = state.KindLogin },
			"another ID":     func(_ *state.PersonKey, s *state.Session) { s.ID = "key_9" },
			"another person": func(_ *state.PersonKey, s *state.Session) { s.Subject = "00u-bob" },
			"another issuer": func(_ *state.PersonKey, s *state.Session) { s.Issuer = "https://other.example" },
			"another key":    func(_ *state.PersonKey, s *state.Session) { s.Thumbprint = "SHA256:two" },
		} {
			if err := d.try(addKey(key("key_1", "SHA256:one", change))); err == nil {
				t.Errorf("%s: stored", name)
			}
		}
		want(d, liveKeys("", noon), nil)
	})
}

// TestFollowLogin: a login shows the keys of its person what has changed, and nobody else's, and no time goes back.
func TestFollowLogin(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		mine, session := key("key_1", "SHA256:one")
		d.write(addKey(mine, session))
		other, theirs := key("key_2", "SHA256:two", func(k *state.PersonKey, s *state.Session) { k.Subject, s.Subject = "00u-bob", "00u-bob" })
		d.write(addKey(other, theirs))
		later := login("ses_1", func(s *state.Session) {
			s.Email, s.Name, s.Groups, s.AuthTime = "alice.b@example.com", "Alice B", []string{"sales"}, noon.Add(time.Hour)
		})
		follow := func(s state.Session) {
			d.write(func(ctx context.Context, q state.Querier) error { return state.FollowLogin(ctx, q, s) })
		}
		follow(later)
		session.Email, session.Name, session.Groups, session.AuthTime = later.Email, later.Name, later.Groups, later.AuthTime
		want(d, byID("key_1"), session)
		want(d, byID("key_2"), theirs)
		follow(login("ses_2", func(s *state.Session) { s.Email, s.Name, s.Groups = later.Email, later.Name, later.Groups }))
		want(d, byID("key_1"), session)
	})
}

// TestKeyOfACertificate: what is known of a certificate's key lives as long as its record.
func TestKeyOfACertificate(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		rows := func(ctx context.Context, q state.Querier) (n int, err error) {
			err = q.QueryRowContext(ctx, `SELECT count(*) FROM cert_keys`).Scan(&n)
			return n, err
		}
		for i, c := range []state.Cert{{}, {Hardware: true}, {Hardware: true, Verified: true}} {
			c.Serial, c.Profile, c.Bearer, c.ValidBefore = 1<<32|uint64(i+1), "access", bearer(login("ses_1")), noon.Add(time.Duration(i)*time.Hour)
			d.write(func(ctx context.Context, q state.Querier) error { return state.AddCert(ctx, q, c) })
			want(d, func(ctx context.Context, q state.Querier) (state.Cert, error) {
				return state.CertBySerial(ctx, q, "access", c.Serial)
			}, c)
		}
		want(d, rows, 2)
		d.write(func(ctx context.Context, q state.Querier) error {
			return state.DropExpired(ctx, q, noon.Add(90*time.Minute))
		})
		want(d, rows, 1)
		d.write(func(ctx context.Context, q state.Querier) error { return state.Recover(ctx, q, noon) })
		want(d, rows, 0)
	})
}
