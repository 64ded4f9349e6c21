package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// openCAs brings the database up to what the configuration says: where it knows no key of a CA that signs, the first that is
// configured does; what is trusted beside is what the configuration names. All else is for a rotation.
func (s *Server) openCAs(ctx context.Context) error {
	s.cas.ring.Store(&s.CAs)
	for range 5 { // another broker may start at the same time
		err := s.configureCAs(ctx)
		if err == nil {
			err = s.RefreshCAs(ctx)
		}
		if err == nil {
			s.sayUnready()
			return nil
		}
		if !errors.Is(err, state.ErrExists) && !errors.Is(err, state.ErrNotFound) {
			return err
		}
	}
	return errors.New("broker: the keys of the CAs change all the time")
}

// sayUnready says what no certificate will come of. A broker that lacks the key that signs starts all the same: it is not ready, and
// an operator asks it to adopt another where that key is lost.
func (s *Server) sayUnready() {
	if err := s.caReadiness(); err != nil {
		s.Logger.Error("nothing of a CA is issued", "error", err, "next", "segad ca list")
	}
}

// caChange is a difference between configuration and database.
type caChange struct {
	key  state.CAKey
	drop bool
}

func (s *Server) configureCAs(ctx context.Context) error {
	var known []state.CAKey
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		known, err = state.CAKeys(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	changes, err := s.CAs.changes(known)
	if err != nil || len(changes) == 0 {
		return err
	}
	e := audit.Event{V: 1, ID: audit.NewID(), Time: s.Now().UTC(), Kind: audit.KindCAConfigure, Outcome: audit.Success, Actor: audit.Actor{Kind: audit.ActorSystem},
		Action: api.NewID("act_"), Resource: "ca/" + s.Node, PolicyDigest: s.Policy.Set().Digest(), PolicyIDs: []string{}, Node: s.Node}
	if err := setDetails(&e, map[string]any{"keys": described(changes)}); err != nil {
		return err
	}
	_, err = s.Log.Append(ctx, []audit.Event{e}, func(ctx context.Context, tx store.Tx) error { return applyCAs(ctx, tx, changes, s.Now()) })
	return err
}

func applyCAs(ctx context.Context, tx store.Tx, changes []caChange, now time.Time) error {
	version, err := state.RaiseTrust(ctx, tx)
	for _, c := range changes {
		if err != nil {
			return err
		}
		if c.drop {
			err = state.DropCAKey(ctx, tx, c.key.Key)
			continue
		}
		c.key.Version, c.key.Published = version, now
		err = state.AddCAKey(ctx, tx, c.key)
	}
	return err
}

// changes are what the database lacks of the configuration, and what it has that is not configured any more.
func (c CAs) changes(known []state.CAKey) (changes []caChange, err error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	for _, ca := range caNames {
		if !slices.ContainsFunc(known, func(k state.CAKey) bool { return k.CA == ca && k.Phase == state.CACurrent }) {
			first := sshca.MarshalLine(c.signers(ca)[0].PublicKey())
			if slices.ContainsFunc(known, func(k state.CAKey) bool { return k.Key == first }) {
				return nil, fmt.Errorf("broker: the first key of the %s CA is one that a CA has or had", ca)
			}
			added := state.CAKey{CA: ca, Key: first, Phase: state.CACurrent}
			changes, known = append(changes, caChange{key: added}), append(slices.Clone(known), added)
		}
		beside, err := c.changesBeside(ca, known)
		if err != nil {
			return nil, err
		}
		changes = append(changes, beside...)
	}
	return changes, nil
}

func (c CAs) changesBeside(ca string, known []state.CAKey) (changes []caChange, err error) {
	wanted := map[string]bool{}
	for _, key := range c.beside(ca) {
		wanted[sshca.MarshalLine(key)] = true
	}
	for _, k := range known {
		switch {
		case !wanted[k.Key] && k.CA == ca && k.Phase == state.CABeside:
			changes = append(changes, caChange{key: k, drop: true})
		case wanted[k.Key] && (k.CA != ca || k.Phase == state.CARetired):
			return nil, fmt.Errorf("broker: more_%s names a key that is retired, or another CA's: %s", ca, fingerprint(k.Key))
		}
		delete(wanted, k.Key)
	}
	for _, key := range c.beside(ca) {
		if line := sshca.MarshalLine(key); wanted[line] {
			changes = append(changes, caChange{key: state.CAKey{CA: ca, Key: line, Phase: state.CABeside}})
			delete(wanted, line)
		}
	}
	return changes, nil
}

// described is what the event says of changes.
func described(changes []caChange) (out []map[string]string) {
	for _, c := range changes {
		phase := c.key.Phase
		if c.drop {
			phase = "dropped"
		}
		out = append(out, map[string]string{"ca": c.key.CA, "key": fingerprint(c.key.Key), "phase": phase})
	}
	return out
}
