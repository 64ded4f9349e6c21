package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// A CA's key is changed in four steps, each one event in the transaction of its effect: publish (all bundles hold the next key),
// switch (it signs), retire (the old one leaves the bundles); withdraw takes a key back that has not signed.

// caLate is added to the life of the last certificate that an old key may have signed: that another broker has not heard of
// the switch yet, that an event takes its time, and that clocks differ.
const caLate = caStale + outcomeTimeout + time.Minute

// brokerLate is after which silence a broker does not count as running: at its start it reads how things are.
const brokerLate = 3 * caTell

// stepTries bounds how often a step is planned anew because something has changed meanwhile.
const stepTries = 5

var errPlanMoved = errors.New("broker: what the step was planned on has changed")

// caPlan is what a step does, as its event says.
type caPlan struct {
	CA     string       `json:"ca"`
	Key    string       `json:"key"`               // fingerprint of the key that the step is about
	Before string       `json:"before,omitempty"`  // of the key that signed
	Unseen []api.CASeen `json:"unseen,omitempty"`  // who has not seen it
	ByHand []string     `json:"by_hand,omitempty"` // hosts that nobody asks
	NotYet time.Time    `json:"not_yet,omitzero"`  // when it would be allowed
	Until  time.Time    `json:"until,omitzero"`    // when what the key before has signed has expired
	Force  bool         `json:"force"`

	refused *api.Problem
	apply   func(ctx context.Context, tx store.Tx) error
}

// planner makes the plan of a step from the database, and decides.
type planner func(ctx context.Context, q store.Querier, ca string, r api.CAStep) (caPlan, error)

// stepCA carries out one step, or records why not. What it was planned on is read again in the transaction, so that of two steps at
// once one is refused.
func (s *Server) stepCA(ctx context.Context, who Operator, kind, ca string, r api.CAStep, plan planner) error {
	for range stepTries {
		err := s.tryStep(ctx, who, kind, ca, r, plan)
		if !errors.Is(err, errPlanMoved) {
			return errors.Join(err, s.afterStep(ctx, err))
		}
	}
	return api.Errorf(api.KindConflict, "the %s CA changes all the time", ca).WithHint("repeat the command")
}

// afterStep has this broker see its own step at once. The others look every second.
func (s *Server) afterStep(ctx context.Context, step error) error {
	if step != nil {
		return nil
	}
	return unavailable(s.RefreshCAs(ctx))
}

func (s *Server) tryStep(ctx context.Context, who Operator, kind, ca string, r api.CAStep, plan planner) error {
	var p caPlan
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		p, err = plan(ctx, tx, ca, r)
		return err
	})
	if err != nil {
		return unavailable(err)
	}
	e := s.operatorEvent(who, kind, "ca/"+ca, r.Reason, r.Ticket)
	if p.refused != nil {
		return s.deny(ctx, e, p, p.refused)
	}
	if err := setDetails(&e, p); err != nil {
		return err
	}
	_, err = s.Log.Append(ctx, []audit.Event{e}, func(ctx context.Context, tx store.Tx) error {
		now, err := plan(ctx, tx, ca, r)
		if err != nil {
			return err
		}
		if !now.same(p) {
			return errPlanMoved
		}
		return now.apply(ctx, tx)
	})
	if errors.Is(err, errPlanMoved) || errors.Is(err, state.ErrExists) || errors.Is(err, state.ErrNotFound) {
		return errPlanMoved
	}
	return unavailable(err)
}

// same reports whether a plan is the one that the event describes.
func (p caPlan) same(was caPlan) bool {
	a, errA := json.Marshal(p)
	b, errB := json.Marshal(was)
	return errA == nil && errB == nil && string(a) == string(b) && (p.refused == nil) == (was.refused == nil)
}

// operatorEvent is the event of what an operator does on the broker's machine.
func (s *Server) operatorEvent(who Operator, kind, resource, reason, ticket string) audit.Event {
	return audit.Event{V: 1, ID: audit.NewID(), Time: s.Now().UTC(), Kind: kind, Outcome: audit.Success, Actor: audit.Actor{Kind: audit.ActorSystem, Iss: operatorIssuer, Sub: who.Subject, Email: who.Name},
		Action: api.NewID("act_"), Resource: resource, Reason: printable(reason, 1000), Ticket: printable(ticket, 100),
		PolicyDigest: s.Policy.Set().Digest(), PolicyIDs: []string{}, Node: s.Node}
}

// caOf are the keys of one CA by phase. Of beside and retired keys the last one stands here.
func caOf(ctx context.Context, q store.Querier, ca string) (all []state.CAKey, by map[string]state.CAKey, err error) {
	keys, err := state.CAKeys(ctx, q)
	by = map[string]state.CAKey{}
	for _, k := range keys {
		if k.CA == ca {
			by[k.Phase] = k
		}
	}
	return keys, by, err
}

// candidates are the keys that may be published, and which of them were tried in vain. To try one may be slow, so that is done
// before a transaction.
type candidates struct {
	ca    string
	ring  CAs
	keys  chooser
	fails map[string]error // by key; nil: it signs
}

// chooser says which of a CA's configured keys a step may be about.
type chooser func(ring CAs, ca string, known []state.CAKey) (lines []string)

// planPublish puts a configured key into the bundles, beside the one that signs.
func (s *Server) planPublish(may *candidates) planner {
	return func(ctx context.Context, q store.Querier, ca string, r api.CAStep) (caPlan, error) {
		return s.planNext(ctx, q, ca, r, may)
	}
}

func (s *Server) planNext(ctx context.Context, q store.Querier, ca string, r api.CAStep, may *candidates) (caPlan, error) {
	all, by, err := caOf(ctx, q, ca)
	if err != nil {
		return caPlan{}, err
	}
	p := caPlan{CA: ca, Before: fingerprint(by[state.CACurrent].Key)}
	if next, is := by[state.CANext]; is {
		p.Key = fingerprint(next.Key)
		p.refused = api.Errorf(api.KindConflict, "a key of the %s CA is published already: %s", ca, p.Key).WithHint("run: segad ca rotate %s, or segad ca withdraw %s", ca, ca)
		return p, nil
	}
	line, problem := may.pick(ca, r.Key, all)
	if problem != nil {
		p.Key, p.refused = r.Key, problem
		return p, nil
	}
	p.Key = fingerprint(line)
	p.apply = func(ctx context.Context, tx store.Tx) error {
		version, err := state.RaiseTrust(ctx, tx)
		if err != nil {
			return err
		}
		key := state.CAKey{CA: ca, Key: line, Phase: state.CANext, Version: version, Published: s.Now()}
		for _, k := range all {
			if k.Key == line { // trusted beside until now, perhaps not by every broker
				k.Version, k.Published = version, s.Now()
				return state.MoveCAKey(ctx, tx, k, state.CANext)
			}
		}
		return state.AddCAKey(ctx, tx, key)
	}
	return p, nil
}

// pick is the one key that a step may be about, and signs.
func (c *candidates) pick(ca, wanted string, known []state.CAKey) (line string, problem *api.Problem) {
	found := c.keys(c.ring, ca, known)
	if wanted != "" {
		found = slices.DeleteFunc(found, func(line string) bool { return fingerprint(line) != wanted })
	}
	switch {
	case len(found) == 0:
		return "", api.Errorf(api.KindConflict, "the configuration names no new key of the %s CA that opens", ca).
			WithHint("add its place to ca.%s in the broker's configuration; segad ca list says what is there", ca)
	case len(found) > 1:
		return "", api.Errorf(api.KindConflict, "the configuration names several new keys of the %s CA", ca).WithHint("say which one: --key SHA256:…")
	}
	if err, tried := c.fails[found[0]]; err != nil || !tried {
		return "", api.Errorf(api.KindConflict, "the new key of the %s CA does not sign", ca).WithCause(err).WithHint("the broker's log says why")
	}
	return found[0], nil
}

// newKeys are the configured keys of a CA that none has or had; those that are trusted beside are new, too.
func newKeys(ring CAs, ca string, known []state.CAKey) (lines []string) {
	for _, signer := range ring.signers(ca) {
		line := sshca.MarshalLine(signer.PublicKey())
		if !slices.ContainsFunc(known, func(k state.CAKey) bool { return k.Key == line && (k.CA != ca || k.Phase != state.CABeside) }) {
			lines = append(lines, line)
		}
	}
	return lines
}

// planWithdraw takes a published key out of the bundles, for good: it may be withdrawn because it was stolen, and whoever has been
// told to trust it is told by the revocation list, too.
func (s *Server) planWithdraw(ctx context.Context, q store.Querier, ca string, _ api.CAStep) (caPlan, error) {
	_, by, err := caOf(ctx, q, ca)
	if err != nil {
		return caPlan{}, err
	}
	p := caPlan{CA: ca}
	next, is := by[state.CANext]
	if !is {
		p.refused = api.Errorf(api.KindConflict, "no key of the %s CA is published that does not sign", ca).WithHint("run: segad ca list")
		return p, nil
	}
	p.Key = fingerprint(next.Key)
	if s.cas.ring.Load().trustsBeside(ca, next.Key) { // a retired one there would keep the next start from happening
		p.refused = api.Errorf(api.KindConflict, "the configuration names the published key in more_%s, too", ca).WithHint("take it out of ca.more_%s of every broker first", ca)
		return p, nil
	}
	p.apply = func(ctx context.Context, tx store.Tx) error {
		if _, err := state.RaiseTrust(ctx, tx); err != nil {
			return err
		}
		next.Retired = s.Now()
		return state.MoveCAKey(ctx, tx, next, state.CARetired)
	}
	return p, nil
}

// planSwitch has the published key sign from now on.
func (s *Server) planSwitch(ctx context.Context, q store.Querier, ca string, r api.CAStep) (caPlan, error) {
	_, by, err := caOf(ctx, q, ca)
	if err != nil {
		return caPlan{}, err
	}
	next, current := by[state.CANext], by[state.CACurrent]
	p := caPlan{CA: ca, Key: fingerprint(next.Key), Before: fingerprint(current.Key), Force: r.Force}
	switch old, waits := by[state.CAOld]; {
	case next.Key == "":
		p.refused = api.Errorf(api.KindConflict, "no key of the %s CA is published", ca).WithHint("run: segad ca publish %s", ca)
		return p, nil
	case s.cas.ring.Load().find(ca, next.Key) == nil: // no --force helps: nothing would be signed
		p.refused = api.Errorf(api.KindConflict, "the published key of the %s CA is not among those of this broker", ca).
			WithHint("name its place in the broker's configuration; or, where nobody has published it: segad ca withdraw %s", ca)
		return p, nil
	case waits:
		p.refused = api.Errorf(api.KindConflict, "the %s CA has an old key that is not retired: %s", ca, fingerprint(old.Key)).WithHint("run: segad ca retire %s", ca)
		return p, nil
	}
	seen, byHand, err := s.whoSees(ctx, q, ca, next)
	if err != nil {
		return caPlan{}, err
	}
	p.ByHand = byHand
	for _, v := range seen {
		if !v.Seen {
			v.At = time.Time{} // a broker says so again and again
			p.Unseen = append(p.Unseen, v)
		}
	}
	at, err := s.laptopsHave(ctx, q, ca, next)
	if err != nil {
		return caPlan{}, err
	}
	if s.Now().Before(at) {
		p.NotYet = at
	}
	p.refused = p.mayNotSwitch(r)
	until, err := s.signedUntil(ctx, q, ca)
	if err != nil {
		return caPlan{}, err
	}
	p.apply = func(ctx context.Context, tx store.Tx) error {
		current.Replaced, current.Until = s.Now(), until
		return errors.Join(state.MoveCAKey(ctx, tx, current, state.CAOld), state.MoveCAKey(ctx, tx, next, state.CACurrent))
	}
	return p, nil
}

// mayNotSwitch says why logins could fail.
func (p caPlan) mayNotSwitch(r api.CAStep) *api.Problem {
	var unseen []string
	for _, u := range p.Unseen {
		unseen = append(unseen, u.Kind+" "+u.Name)
	}
	switch {
	case r.Force:
		return nil
	case len(p.Unseen) > 0:
		return api.Errorf(api.KindConflict, "%s has not seen the key", firstFew(unseen)).
			WithHint("wait, or mend them (segad ca list %s); --force goes on without them, and they let nobody in", p.CA)
	case !p.NotYet.IsZero():
		return api.Errorf(api.KindConflict, "laptops may not have the key before %s", p.NotYet.UTC().Format(time.RFC3339)).
			WithHint("wait: they get it with their next certificate; --force goes on without them")
	case len(p.ByHand) > 0 && !r.ByHand:
		return api.Errorf(api.KindConflict, "not enrolled, so unable to say whether they trust the key: %s", firstFew(p.ByHand)).
			WithHint("put the key into their TrustedUserCAKeys file, then repeat with --by-hand")
	}
	return nil
}

// firstFew names at most five of many.
func firstFew(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s, and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// whoSees are the machines whose word is needed before a key signs, and the hosts that are not enrolled.
func (s *Server) whoSees(ctx context.Context, q store.Querier, ca string, next state.CAKey) (all []api.CASeen, byHand []string, err error) {
	words, err := state.TrustSeen(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	said := map[string]state.Seen{}
	for _, w := range words {
		said[w.Machine] = w
		if w.Kind == kindBroker && (w.Name == s.Node || s.Now().Sub(w.At) < brokerLate) {
			all = append(all, sight(w, next))
		}
	}
	kind := api.MachineBastion
	if ca == caHop {
		kind = api.MachineHost
	}
	machines, err := state.Machines(ctx, q, kind)
	if err != nil {
		return nil, nil, err
	}
	enrolled := map[string]bool{}
	for _, m := range machines {
		enrolled[m.Name] = true
		if _, known := s.bastion(m.Name); kind == api.MachineBastion && !known {
			continue // it is not configured any more, and gets nothing
		}
		subject, err := state.SubjectByID(ctx, q, machineIssuer, m.ID)
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return nil, nil, err
		}
		if subject.Blocked {
			continue // it was revoked, and gets nothing
		}
		w := said[m.ID]
		w.Name, w.Kind = m.Name, kind
		all = append(all, sight(w, next))
	}
	if ca == caHop {
		for _, h := range s.Hosts {
			if !enrolled[h.Name] && !enrolled[h.ID] {
				byHand = append(byHand, h.Name)
			}
		}
	}
	return all, byHand, nil
}

func sight(w state.Seen, next state.CAKey) api.CASeen {
	return api.CASeen{Kind: w.Kind, Name: w.Name, Version: w.Version, At: w.At, Seen: w.Version >= next.Version}
}

// laptopsHave is when every laptop that shows a good certificate has a front CA's key: they get the bundle with each
// certificate, and say nothing.
func (s *Server) laptopsHave(ctx context.Context, q store.Querier, ca string, next state.CAKey) (time.Time, error) {
	if ca != caFront {
		return time.Time{}, nil
	}
	life, err := s.longestLife(ctx, q, caAccess)
	return next.Published.Add(life + s.Times.CALate), err
}

// signedUntil is when the last certificate has expired that the key of a CA can have signed which signs now. Those of hosts live for
// weeks, each as long as it was made for: of them the records say it.
func (s *Server) signedUntil(ctx context.Context, q store.Querier, ca string) (time.Time, error) {
	if ca != caHost {
		life, err := s.longestLife(ctx, q, ca)
		return s.Now().Add(life + s.Times.CALate), err
	}
	last, err := state.LastCert(ctx, q, ca)
	if least := s.Now().Add(s.Times.CALate); last.Before(least) {
		last = least
	}
	return last, err
}

// longestLife is for how long a certificate of a CA may live that any broker has signed, whatever was configured then.
func (s *Server) longestLife(ctx context.Context, q store.Querier, ca string) (time.Duration, error) {
	kept, err := state.CALife(ctx, q, ca)
	return max(kept, s.certLife(ca)), err
}

// certLife is for how long a certificate of a CA lives that this broker signs; 0 for the host CA.
func (s *Server) certLife(ca string) time.Duration {
	return map[string]time.Duration{caAccess: s.Times.AccessCert, caHop: s.Times.HopCert, caFront: s.Times.FrontCert}[ca]
}

// planRetire takes the old key out of the bundles, for good.
func (s *Server) planRetire(ctx context.Context, q store.Querier, ca string, r api.CAStep) (caPlan, error) {
	_, by, err := caOf(ctx, q, ca)
	if err != nil {
		return caPlan{}, err
	}
	p := caPlan{CA: ca, Force: r.Force}
	old, is := by[state.CAOld]
	if !is {
		p.refused = api.Errorf(api.KindConflict, "the %s CA has no old key: what signs is not retired", ca).WithHint("run: segad ca list")
		return p, nil
	}
	p.Key, p.Until = fingerprint(old.Key), old.Until
	if s.Now().Before(old.Until) {
		p.NotYet = old.Until
	}
	p.ByHand = s.signedByHand(ca)
	p.refused = p.mayNotRetire(r)
	p.apply = func(ctx context.Context, tx store.Tx) error {
		if _, err := state.RaiseTrust(ctx, tx); err != nil {
			return err
		}
		old.Retired = s.Now()
		return state.MoveCAKey(ctx, tx, old, state.CARetired)
	}
	return p, nil
}

// mayNotRetire says why what the key has signed could still be needed.
func (p caPlan) mayNotRetire(r api.CAStep) *api.Problem {
	switch {
	case r.Force:
		return nil
	case !p.NotYet.IsZero():
		return api.Errorf(api.KindConflict, "certificates that it has signed may live until %s", p.NotYet.UTC().Format(time.RFC3339)).
			WithHint("wait; --force retires it although they are refused from then on")
	case len(p.ByHand) > 0 && !r.ByHand:
		return api.Errorf(api.KindConflict, "not enrolled, so unable to say who has signed their certificates: %s", firstFew(p.ByHand)).
			WithHint("sign their keys anew (segad ca sign-host), then repeat with --by-hand; a host whose certificate the old key has signed is reached no more")
	}
	return nil
}

// signedByHand are the hosts of the configuration that need a certificate of a CA which the records do not know: those
// that are enrolled get theirs from here, and of the others the host CA alone signs for years.
func (s *Server) signedByHand(ca string) (names []string) {
	if ca != caHost {
		return nil
	}
	for _, h := range s.Hosts {
		if len(h.HostKeys) == 0 {
			names = append(names, h.Name)
		}
	}
	return names
}
