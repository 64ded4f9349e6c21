package broker

import (
	"context"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// planAdopt has a configured key sign in place of one that this broker does not hold: the way out where that is lost, or where a
// restored database names one that was destroyed since. The lost one is retired, so that nothing it has signed is trusted, unless
// the configuration names it among those that are trusted beside.
func (s *Server) planAdopt(c *candidates) planner {
	return func(ctx context.Context, q store.Querier, ca string, r api.CAStep) (caPlan, error) {
		all, by, err := caOf(ctx, q, ca)
		if err != nil {
			return caPlan{}, err
		}
		lost := by[state.CACurrent]
		p := caPlan{CA: ca, Before: fingerprint(lost.Key), Force: r.Force}
		line, problem := c.adopt(ca, r.Key, lost.Key, all)
		if p.Key = r.Key; line != "" {
			p.Key = fingerprint(line)
		}
		if p.refused = problem; problem != nil {
			return p, nil
		}
		if p.refused, err = s.othersRun(ctx, q, r); err != nil || p.refused != nil {
			return p, err
		}
		p.apply = func(ctx context.Context, tx store.Tx) error { return c.replace(ctx, tx, lost, line, all, s.Now()) }
		return p, nil
	}
}

// adopt is the key that is to sign, or why none may.
func (c *candidates) adopt(ca, wanted, lost string, known []state.CAKey) (line string, problem *api.Problem) {
	switch {
	case c.ring.find(ca, lost) != nil:
		return "", api.Errorf(api.KindConflict, "the key that signs for the %s CA is among those of this broker", ca).WithHint("to change to another one run: segad ca publish %s", ca)
	case slices.Contains(c.ring.Unopened, ca):
		return "", api.Errorf(api.KindConflict, "a configured key of the %s CA does not open, and may be the one that signs", ca).
			WithHint("mend it (the broker's log says why), or take it out of ca.%s where it is lost for good", ca)
	}
	return c.pick(ca, wanted, known)
}

// othersRun refuses while another broker says that it runs: it may hold the key.
func (s *Server) othersRun(ctx context.Context, q store.Querier, r api.CAStep) (*api.Problem, error) {
	words, err := state.TrustSeen(ctx, q)
	for _, w := range words {
		if w.Kind == kindBroker && w.Name != s.Node && s.Now().Sub(w.At) < brokerLate && !r.Force {
			return api.Errorf(api.KindConflict, "broker %s runs, and may hold the key that signs", w.Name).WithHint("look at its /readyz; --force where it does not sign either"), nil
		}
	}
	return nil, err
}

// replace has a key sign in place of the lost one.
func (c *candidates) replace(ctx context.Context, tx store.Tx, lost state.CAKey, line string, known []state.CAKey, now time.Time) error {
	version, err := state.RaiseTrust(ctx, tx)
	if err != nil {
		return err
	}
	if lost.Key != "" {
		to := state.CABeside
		if lost.Replaced = now; !c.ring.trustsBeside(lost.CA, lost.Key) {
			to, lost.Retired = state.CARetired, now
		}
		if err := state.MoveCAKey(ctx, tx, lost, to); err != nil {
			return err
		}
	}
	key := state.CAKey{CA: c.ca, Key: line, Phase: state.CACurrent, Version: version, Published: now}
	for _, k := range known {
		if k.Key == line {
			key.Phase, key.Published = k.Phase, k.Published
			return state.MoveCAKey(ctx, tx, key, state.CACurrent)
		}
	}
	return state.AddCAKey(ctx, tx, key)
}

// adoptable are the configured keys of a CA that may sign in place of a lost one: all that are not retired, nor another CA's.
func adoptable(ring CAs, ca string, known []state.CAKey) (lines []string) {
	for _, signer := range ring.signers(ca) {
		line := sshca.MarshalLine(signer.PublicKey())
		if !slices.ContainsFunc(known, func(k state.CAKey) bool { return k.Key == line && (k.CA != ca || k.Phase == state.CARetired) }) {
			lines = append(lines, line)
		}
	}
	return lines
}

// trustsBeside reports whether the configuration names a key among those that are trusted and never sign.
func (c CAs) trustsBeside(ca, line string) bool {
	return slices.ContainsFunc(c.beside(ca), func(k ssh.PublicKey) bool { return sshca.MarshalLine(k) == line })
}
