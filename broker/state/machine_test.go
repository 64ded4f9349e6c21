package state_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/state"
)

func TestJoinTokenOnce(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		token := state.JoinToken{Hash: []byte("hash"), Name: "bastion-1", Kind: "bastion", Expires: noon}
		late := state.JoinToken{Hash: []byte("late"), Name: "bastion-2", Kind: "bastion", Expires: noon}
		for _, j := range []state.JoinToken{token, late} {
			d.write(func(ctx context.Context, q state.Querier) error { return state.AddJoinToken(ctx, q, j) })
		}
		spend := func(hash string, at time.Time) (j state.JoinToken, err error) {
			err = d.try(func(ctx context.Context, q state.Querier) (err error) {
				j, err = state.SpendJoinToken(ctx, q, []byte(hash), at)
				return err
			})
			return j, err
		}
		for _, step := range []struct {
			name, hash string
			at         time.Time
			want       error
		}{
			{"unknown", "other", noon.Add(-time.Minute), state.ErrNotFound},
			{"empty", "", noon.Add(-time.Minute), state.ErrNotFound},
			{"expired", "late", noon, state.ErrNotFound},
			{"good", "hash", noon.Add(-time.Millisecond), nil},
			{"used", "hash", noon.Add(-time.Minute), state.ErrNotFound},
		} {
			t.Run(step.name, func(t *testing.T) {
				got, err := spend(step.hash, step.at)
				if !errors.Is(err, step.want) {
					t.Fatalf("got %v, want %v", err, step.want)
				}
				if diff := cmp.Diff(token, got); err == nil && diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			})
		}
		err := d.try(func(ctx context.Context, q state.Querier) error { return state.AddJoinToken(ctx, q, token) })
		if !errors.Is(err, state.ErrExists) {
			t.Errorf("a spent token was made good again: %v", err)
		}
	})
}

// TestJoinTokenIsNotSpentByAFailure: what fails after it in the transaction gives it back.
func TestJoinTokenIsNotSpentByAFailure(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		token := state.JoinToken{Hash: []byte("hash"), Name: "bastion-1", Kind: "bastion", Expires: noon}
		d.write(func(ctx context.Context, q state.Querier) error { return state.AddJoinToken(ctx, q, token) })
		failed := errors.New("failed")
		spend := func(then error) error {
			return d.try(func(ctx context.Context, q state.Querier) error {
				if _, err := state.SpendJoinToken(ctx, q, token.Hash, noon.Add(-time.Hour)); err != nil {
					return err
				}
				return then
			})
		}
		if err := spend(failed); !errors.Is(err, failed) {
			t.Fatal(err)
		}
		if err := spend(nil); err != nil {
			t.Error(err)
		}
	})
}

func TestMachines(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		first := state.Machine{ID: "mch_1", Name: "bastion-1", Kind: "bastion", Thumbprint: "key 1", Created: noon}
		again := state.Machine{ID: "mch_2", Name: "bastion-1", Kind: "bastion", Thumbprint: "key 2", Created: noon.Add(time.Hour)}
		other := state.Machine{ID: "mch_3", Name: "bastion-2", Kind: "bastion", Thumbprint: "key 3", Created: noon}
		byKey := func(key string) func(context.Context, state.Querier) (state.Machine, error) {
			return func(ctx context.Context, q state.Querier) (state.Machine, error) {
				return state.MachineByKey(ctx, q, key)
			}
		}
		byID := func(id string) func(context.Context, state.Querier) (state.Machine, error) {
			return func(ctx context.Context, q state.Querier) (state.Machine, error) {
				return state.MachineByID(ctx, q, id)
			}
		}
		enrol := func(m state.Machine) error {
			return d.try(func(ctx context.Context, q state.Querier) error { return state.AddMachine(ctx, q, m) })
		}
		if err := errors.Join(enrol(first), enrol(other)); err != nil {
			t.Fatal(err)
		}
		want(d, byKey("key 1"), first)
		if err := enrol(again); err != nil {
			t.Fatal(err)
		}
		wantErr(d, byKey("key 1"), state.ErrNotFound)
		wantErr(d, byID("mch_1"), state.ErrNotFound)
		want(d, byKey("key 2"), again)
		want(d, byID("mch_3"), other)
		if err := enrol(state.Machine{ID: "mch_4", Name: "bastion-3", Kind: "bastion", Thumbprint: "key 3", Created: noon}); err == nil {
			t.Error("one key stands for two machines")
		}
	})
}

func TestSSHSessions(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		session := func(id, sub string, started time.Time) state.SSHSession {
			return state.SSHSession{ID: id, Bearer: state.Bearer{LoginID: "ses_1", Issuer: issuer, Subject: sub, Epoch: 3, Rev: 4}, Email: "alice@example.com", Host: "web-1",
				Login: "deploy", Source: "192.0.2.7", Node: "mch_1", Started: started, NotAfter: noon.Add(time.Hour), State: state.SSHOpening, Labels: map[string]string{"env": "prod \"1\""}}
		}
		a, b, bob := session("ssh_a", alice, noon.Add(time.Second)), session("ssh_b", alice, noon), session("ssh_bob", "00u-bob", noon)
		set := func(id, to string) {
			d.write(func(ctx context.Context, q state.Querier) error { return state.SetSSHState(ctx, q, id, to) })
		}
		live := func(sub string) func(context.Context, state.Querier) ([]state.SSHSession, error) {
			return func(ctx context.Context, q state.Querier) ([]state.SSHSession, error) {
				return state.LiveSSH(ctx, q, issuer, sub, noon)
			}
		}
		for _, s := range []state.SSHSession{a, b, bob} {
			s.State = state.SSHLive // whatever is given, a session begins as opening
			d.write(func(ctx context.Context, q state.Querier) error { return state.AddSSH(ctx, q, s) })
		}
		want(d, func(ctx context.Context, q state.Querier) (state.SSHSession, error) {
			return state.SSHByID(ctx, q, "ssh_a")
		}, a)
		want(d, live(""), nil)
		for _, id := range []string{"ssh_a", "ssh_b", "ssh_bob"} {
			set(id, state.SSHLive)
		}
		a.State, b.State, bob.State = state.SSHLive, state.SSHLive, state.SSHLive
		want(d, live(alice), []state.SSHSession{b, a})
		want(d, live(""), []state.SSHSession{b, bob, a})
		set("ssh_b", state.SSHEnded)
		want(d, live(alice), []state.SSHSession{a})
		if err := d.try(func(ctx context.Context, q state.Querier) error { return state.AddSSH(ctx, q, a) }); !errors.Is(err, state.ErrExists) {
			t.Errorf("got %v", err)
		}
		wantErr(d, func(ctx context.Context, q state.Querier) (state.SSHSession, error) {
			return state.SSHByID(ctx, q, "ssh_x")
		}, state.ErrNotFound)
	})
}

func TestReportOnce(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		use := func(id string) error {
			return d.try(func(ctx context.Context, q state.Querier) error { return state.UseReport(ctx, q, id, noon) })
		}
		if err := errors.Join(use("mch_1/a"), use("mch_2/a")); err != nil {
			t.Error(err)
		}
		if err := use("mch_1/a"); !errors.Is(err, state.ErrExists) {
			t.Errorf("got %v", err)
		}
	})
}
