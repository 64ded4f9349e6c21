package broker

import (
	"context"
	"errors"
	"strings"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/sshca"
)

// maxHostKeys is how many keys of its sshd a host may show.
const maxHostKeys = 8

// admission is what lets a host in: a token that is spent, or a document that is used up, in the transaction of
// the enrolment. It returns what the host becomes.
type admission func(ctx context.Context, tx store.Tx) (state.HostTerms, error)

// enrollHost makes a host of the inventory of the machine whose key signs the request (R6, R7).
func (s *Server) enrollHost(ctx context.Context, c *call) (any, error) {
	var r api.HostEnrollRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	machine := state.Machine{ID: api.NewID(api.IDMachine), Name: r.Name, Kind: api.MachineHost, Thumbprint: c.proof.Thumbprint, Created: s.Now()}
	details := map[string]any{"method": "token", "thumbprint": c.proof.Thumbprint}
	op := operation{kind: audit.KindHostEnroll, name: "host/" + printable(r.Name, 128), bearer: &state.Bearer{}, details: details,
		// The name is the stranger's word until it is let in: it is no e-mail that a search finds.
		actor: &audit.Actor{Kind: audit.ActorMachine, Iss: machineIssuer, Sub: machine.ID}}
	keys, problem := shownKeys(r.HostKeys)
	if problem != nil {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, problem)
	}
	details["host_keys"] = keys
	admit, method, problem := s.admission(r)
	if problem != nil {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, problem)
	}
	details["method"] = method
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		reply := &api.HostEnrolled{}
		return effect{reply: reply, apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error {
			terms, err := admit(ctx, tx)
			if err != nil {
				return err
			}
			*reply = api.HostEnrolled{Machine: api.Machine{ID: machine.ID, Name: machine.Name, Kind: machine.Kind}, HostID: machine.Name,
				Logins: terms.Logins, Labels: terms.Labels, PlainKeys: terms.PlainKeys}
			return s.addHost(ctx, tx, machine, state.EnrolledHost{Name: r.Name, Machine: machine.ID, Terms: terms, HostKeys: keys, Method: method, Enrolled: s.Now()})
		}}, nil
	}
	return s.perform(ctx, c, op)
}

// shownKeys checks the keys that a host shows of its sshd.
func shownKeys(lines []string) ([]string, *api.Problem) {
	keys := []string{}
	if len(lines) > maxHostKeys {
		return keys, api.Errorf(api.KindInvalid, "a host shows at most %d keys", maxHostKeys)
	}
	for _, line := range lines {
		key, err := sshca.ParseKey(strings.TrimSpace(line))
		if err != nil {
			return keys, api.Errorf(api.KindInvalid, "a host key is not in authorized_keys form").WithCause(err)
		}
		keys = append(keys, sshca.MarshalLine(key))
	}
	return keys, nil
}

// admission says how a host wants in.
func (s *Server) admission(r api.HostEnrollRequest) (admit admission, method string, problem *api.Problem) {
	switch {
	case r.Token.Empty() == (len(r.Document) == 0):
		return nil, "none", api.Errorf(api.KindInvalid, "a host enrols by a join token, or by its instance's identity document")
	case r.Token.Empty():
		admit, problem = s.byDocument(r)
		return admit, "aws", problem
	}
	return s.byToken(r), "token", nil
}

// byToken spends the token of one name.
func (s *Server) byToken(r api.HostEnrollRequest) admission {
	return func(ctx context.Context, tx store.Tx) (state.HostTerms, error) {
		refused := api.Errorf(api.KindDenied, "the join token is unknown, used, expired or for another machine").WithHint("somebody who may enrol hosts runs: sega hosts token NAME")
		hash := hashToken(r.Token)
		token, err := state.SpendJoinToken(ctx, tx, hash, s.Now())
		if errors.Is(err, state.ErrNotFound) || err == nil && (token.Name != r.Name || token.Kind != api.MachineHost) {
			return state.HostTerms{}, refused
		}
		if err != nil {
			return state.HostTerms{}, err
		}
		terms, err := state.HostTermsOf(ctx, tx, hash)
		if errors.Is(err, state.ErrNotFound) {
			return terms, refused
		}
		return terms, err
	}
}

// addHost stores a host and the machine that it is. The configuration may have changed since its token was
// made, so the name is looked at once more; so may the host that has the name, whose place only a token takes that was decided on with it. A host that was revoked does not come back under its name: what
// was let in before that is no word of those who revoked it.
func (s *Server) addHost(ctx context.Context, tx store.Tx, m state.Machine, h state.EnrolledHost) error {
	if problem := s.checkHostTerms(h.Name, h.Terms); problem != nil {
		return problem
	}
	if h.Terms.PlainKeys && len(h.HostKeys) == 0 {
		return api.Errorf(api.KindInvalid, "a host without certificates must show its host keys, which are pinned")
	}
	old, err := state.MachineByName(ctx, tx, m.Name)
	switch {
	case errors.Is(err, state.ErrNotFound):
	case err != nil:
		return err
	case old.Kind != api.MachineHost:
		return api.Errorf(api.KindConflict, "%q is the name of a machine that is no host", m.Name)
	}
	if blocked, err := blockedHost(ctx, tx, state.EnrolledHost{Name: h.Name, Machine: old.ID}); err != nil || blocked {
		return errors.Join(err, hostRevoked(h.Name))
	}
	now, err := state.HostByName(ctx, tx, h.Name)
	switch {
	case errors.Is(err, state.ErrNotFound):
	case err != nil:
		return err
	case now.Machine != h.Terms.Replaces: // nobody has decided that this one may go
		return api.Errorf(api.KindConflict, "a host %q has enrolled meanwhile", h.Name).WithHint("to enrol it anew: sega hosts token %s", h.Name)
	}
	if err := s.replaceMachine(ctx, tx, m); err != nil {
		return err
	}
	return state.PutHost(ctx, tx, h)
}

// blockedHost reports whether a host was revoked, by its name or as the machine that it is.
func blockedHost(ctx context.Context, q state.Querier, h state.EnrolledHost) (bool, error) {
	if _, err := state.HostBlockOf(ctx, q, h.Name); !errors.Is(err, state.ErrNotFound) {
		return err == nil, err
	}
	subject, err := state.SubjectByID(ctx, q, machineIssuer, h.Machine)
	if errors.Is(err, state.ErrNotFound) {
		return false, nil
	}
	return subject.Blocked, err
}

func hostRevoked(name string) *api.Problem {
	return api.Errorf(api.KindRevoked, "the host %q was revoked", name).WithHint("somebody who may unblock runs: sega unblock host %s --reason TEXT", name)
}
