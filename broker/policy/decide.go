package policy

import (
	"fmt"
	"iter"
	"slices"

	"github.com/cedar-policy/cedar-go"
)

// ordered makes evaluation and its diagnostics come in order of ID.
type ordered []*rule

// All implements cedar.PolicyIterator.
func (o ordered) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, r := range o {
			if !yield(cedar.PolicyID(r.id), r.policy) {
				return
			}
		}
	}
}

// Decide answers r. It is pure: the same Set and Request give the same Decision. An allowing
// Decision may carry Obligations that r leaves undone; whoever acts on it checks them.
func (s *Set) Decide(r Request) Decision {
	d := s.judge(r)
	if d.Cause == CauseNoPermit {
		d.Reason, d.Missing = s.explain(r)
	}
	return d
}

// judge is Decide without the explanation of a missing permit.
func (s *Set) judge(r Request) Decision {
	if s == nil {
		return deny("", CauseNoPolicy, nil, "the broker has no valid policy and denies everything until its operators mend that")
	}
	q, err := newQuery(s.schema, r)
	if err != nil {
		return deny(s.digest, CauseInvalid, nil, "the request is not one that policy knows: %v", err)
	}
	verdict, diag := cedar.Authorize(ordered(s.rules), q, q.req)
	determining := s.determining(diag)
	switch {
	case len(diag.Errors) > 0:
		return s.erred(r, diag)
	case verdict == cedar.Allow:
		return s.grant(r, determining)
	case len(determining) > 0:
		return deny(s.digest, CauseForbid, determining, "%s is forbidden by %s", subject(r), cite(determining))
	}
	return deny(s.digest, CauseNoPermit, nil, "no policy permits %s", subject(r))
}

func (s *Set) determining(diag cedar.Diagnostic) []*rule {
	rules := make([]*rule, len(diag.Reasons))
	for i, reason := range diag.Reasons {
		rules[i] = s.byID[reason.PolicyID]
	}
	return rules
}

// erred denies whatever the verdict was: the policy that erred might have forbidden (R8).
func (s *Set) erred(r Request, diag cedar.Diagnostic) Decision {
	var rules []*rule
	var messages []string
	for _, e := range diag.Errors {
		rules = append(rules, s.byID[e.PolicyID])
		messages = append(messages, fmt.Sprintf("%s:%d: policy %q: %s", e.Position.Filename, e.Position.Line, e.PolicyID, e.Message))
	}
	names := make([]string, len(rules))
	for i, rule := range rules {
		names[i] = fmt.Sprintf("policy %q", rule.id)
	}
	d := deny(s.digest, CauseError, rules, "%s is denied because %s could not be evaluated; ask those who keep the policies to mend it",
		subject(r), joinWords(names, "and"))
	d.Errors = messages
	return d
}

// grant applies the rules that a permit must lift by name. A permit that fails one gives nothing,
// and one permit has to pass all of them.
func (s *Set) grant(r Request, permits []*rule) Decision {
	machine := r.Principal.Kind == KindMachine
	if r.Method == methodKey {
		return s.grantKey(r, permits)
	}
	permits = keep(permits, func(p *rule) bool { return machine || r.MFA || p.noMFA })
	if len(permits) == 0 {
		return deny(s.digest, CauseMFA, nil, "%s needs a login with a second factor (MFA), and the identity provider vouched for none; log in again", subject(r))
	}
	permits = keep(permits, func(p *rule) bool { return methodOK(r, p) })
	if len(permits) == 0 {
		return deny(s.digest, CauseMethod, nil, "%s needs a login through the browser, and %s; log in again", subject(r), methodFault(r.Method))
	}
	return s.chosen(r, permits)
}

// grantKey is for registered keys: nobody logged in, so a permit must name them. It lifts the demand for a
// second factor by that; @no_mfa alone, made for logins, does not.
func (s *Set) grantKey(r Request, permits []*rule) Decision {
	permits = keep(permits, func(p *rule) bool { return p.byKey })
	if len(permits) == 0 {
		return deny(s.digest, CauseMethod, nil, "%s is not for registered keys; log in, and use a certificate", subject(r))
	}
	return s.chosen(r, permits)
}

// chosen is the decision that rests on the best of the permits.
func (s *Set) chosen(r Request, permits []*rule) Decision {
	permits = keep(permits, func(p *rule) bool { return p.named || !byName(r.Action) })
	if len(permits) == 0 {
		return deny(s.digest, CauseNoPermit, nil, "no policy permits %s", subject(r))
	}
	chosen := best(permits, r.Context)
	d := Decision{Allow: true, PolicyIDs: []string{chosen.id}, Obligations: chosen.terms, Digest: s.digest}
	for _, p := range permits {
		if p != chosen {
			d.PolicyIDs = append(d.PolicyIDs, p.id)
		}
	}
	return d
}

// byName lists the actions that only a permit gives that names them in its scope: whoever wrote "everything"
// did not think of taking something out of the recording.
func byName(action string) bool {
	switch action {
	case ActionForward, ActionOpaque, ActionForwardAgent, ActionForwardX11, ActionOmitContent:
		return true
	}
	return false
}

// methodOK is R1: a device code can be approved by a victim for an attacker, so such a login
// ends nobody's access, sees nobody's session, leaves no key behind and adds no host unless a policy says so.
func methodOK(r Request, p *rule) bool {
	switch r.Action {
	case ActionRevoke, ActionUnblock, ActionReplay, ActionRegisterKey, ActionEnrollHost:
	default:
		return true
	}
	switch r.Method {
	case methodBrowser, methodPaste:
		return true
	case methodDevice:
		return p.deviceGrant
	}
	return false
}

func methodFault(method string) string {
	if method == methodDevice {
		return "this one was by device code"
	}
	return "the method of this one is not known"
}

func keep(rules []*rule, f func(*rule) bool) []*rule {
	return slices.DeleteFunc(rules, func(r *rule) bool { return !f(r) })
}

func deny(digest string, cause Cause, rules []*rule, format string, args ...any) Decision {
	ids := make([]string, len(rules))
	for i, r := range rules {
		ids[i] = r.id
	}
	return Decision{Cause: cause, PolicyIDs: ids, Reason: fmt.Sprintf(format, args...), Digest: digest}
}
