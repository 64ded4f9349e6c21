package state_test

import (
	"context"
	"testing"
	"time"

	"sega/broker/state"
)

func subjectOf(sub string) func(context.Context, state.Querier) (state.Subject, error) {
	return func(ctx context.Context, q state.Querier) (state.Subject, error) {
		return state.SubjectByID(ctx, q, issuer, sub)
	}
}

func see(sub, email, name string, at time.Time) func(context.Context, state.Querier) error {
	return func(ctx context.Context, q state.Querier) error {
		_, err := state.SeeSubject(ctx, q, issuer, sub, email, name, at)
		return err
	}
}

func block(sub, reason string) func(context.Context, state.Querier) error {
	return func(ctx context.Context, q state.Querier) error {
		return state.BlockSubject(ctx, q, issuer, sub, "https://other.example", "00u-sam", reason)
	}
}

// TestSubjectLife follows one record through everything that is done to it.
func TestSubjectLife(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		wantErr(d, subjectOf(alice), state.ErrNotFound)
		s := state.Subject{Issuer: issuer, Subject: alice, Email: "alice@example.com", Name: "Alice", Epoch: 1, Seen: noon}
		for _, step := range []struct {
			name string
			do   func(context.Context, state.Querier) error
			then func()
		}{
			{"first seen", see(alice, "alice@example.com", "Alice", noon), func() {}},
			{"seen again under another name", see(alice, "a.smith@example.com", "Alice Smith", noon.Add(time.Hour)), func() {
				s.Email, s.Name, s.Seen = "a.smith@example.com", "Alice Smith", noon.Add(time.Hour)
			}},
			{"blocked", block(alice, "laptop stolen"), func() {
				s.Epoch, s.Blocked, s.BlockedIssuer, s.BlockedSub, s.BlockedReason = 2, true, "https://other.example", "00u-sam", "laptop stolen"
			}},
			{"blocked twice counts twice", block(alice, "again"), func() { s.Epoch, s.BlockedReason = 3, "again" }},
			{"seen while blocked stays blocked", see(alice, "a.smith@example.com", "Alice Smith", noon.Add(2*time.Hour)), func() { s.Seen = noon.Add(2 * time.Hour) }},
			{"unblocked keeps the epoch", func(ctx context.Context, q state.Querier) error { return state.UnblockSubject(ctx, q, issuer, alice) }, func() {
				s.Blocked, s.BlockedIssuer, s.BlockedSub, s.BlockedReason = false, "", "", ""
			}},
		} {
			d.write(step.do)
			step.then()
			t.Run(step.name, func(t *testing.T) { want(db{t, d.log}, subjectOf(alice), s) })
		}
	})
}

// TestBlockBeforeFirstLogin: somebody may be kept out who never came, and coming does not let him in.
func TestBlockBeforeFirstLogin(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		d.write(block("00u-new", "never"))
		s := state.Subject{Issuer: issuer, Subject: "00u-new", Epoch: 2, Blocked: true, BlockedIssuer: "https://other.example", BlockedSub: "00u-sam", BlockedReason: "never"}
		want(d, subjectOf("00u-new"), s)
		d.write(see("00u-new", "new@example.com", "New", noon))
		s.Email, s.Name, s.Seen = "new@example.com", "New", noon
		want(d, subjectOf("00u-new"), s)
	})
}

// TestSubjectIsIssuerAndSubject (R2): the same sub at another issuer is another person, and an
// e-mail may belong to several.
func TestSubjectIsIssuerAndSubject(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		const other = "https://other.example"
		d.write(see(alice, "alice@example.com", "Alice", noon))
		d.write(func(ctx context.Context, q state.Querier) error {
			_, err := state.SeeSubject(ctx, q, other, alice, "alice@example.com", "Impostor", noon)
			return err
		})
		d.write(block(alice, "x"))
		impostor := state.Subject{Issuer: other, Subject: alice, Email: "alice@example.com", Name: "Impostor", Epoch: 1, Seen: noon}
		want(d, func(ctx context.Context, q state.Querier) ([]state.Subject, error) {
			return state.SubjectsByEmail(ctx, q, "alice@example.com")
		}, []state.Subject{
			{Issuer: issuer, Subject: alice, Email: "alice@example.com", Name: "Alice", Epoch: 2, Blocked: true, BlockedIssuer: other, BlockedSub: "00u-sam", BlockedReason: "x", Seen: noon},
			impostor,
		})
		want(d, func(ctx context.Context, q state.Querier) (state.Subject, error) {
			return state.SubjectByID(ctx, q, other, alice)
		}, impostor)
		want(d, func(ctx context.Context, q state.Querier) ([]state.Subject, error) {
			return state.SubjectsByEmail(ctx, q, "nobody@example.com")
		}, nil)
	})
}
