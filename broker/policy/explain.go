package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
)

// maxHints bounds an explanation; nobody reads more.
const maxHints = 6

// noun is a type of resource as people read it.
func noun(resourceType string) string {
	if resourceType == TypeAuditLog {
		return "audit log"
	}
	return strings.ToLower(resourceType)
}

// subject says what was asked for, as in `assume on role "prod"`. Names are quoted, for somebody
// else may have typed them.
func subject(r Request) string {
	text := fmt.Sprintf("%s on %s %q", r.Action, noun(r.Resource.Type), r.Resource.ID)
	switch r.Action {
	case ActionConnect, ActionForward, ActionOpaque, ActionForwardAgent, ActionForwardX11, ActionOmitContent:
		text += fmt.Sprintf(" as %q", r.Login)
	}
	if r.Action == ActionConnect && r.Channel != "" {
		text += " for " + r.Channel // and not its command: a reason is for everybody who reads the log
	}
	return text
}

// cite names policies with the reasons they give.
func cite(rules []*rule) string {
	parts := make([]string, len(rules))
	for i, r := range rules {
		parts[i] = fmt.Sprintf("policy %q", r.id)
		if r.text != "" {
			parts[i] += ": " + r.text
		}
	}
	return strings.Join(parts, "; ")
}

// explain says what would have to change for a request that no permit matched. It asks the set
// about hypothetical members of groups; nothing it finds can turn the denial into anything else.
func (s *Set) explain(r Request) (reason string, missing []string) {
	reason = "no policy permits " + subject(r)
	q, err := newQuery(s.schema, r)
	if err != nil {
		return reason, nil
	}
	var hints []hint
	for _, p := range s.rules {
		if !p.permit || !matches(p.reach, q) {
			continue
		}
		h := s.hint(r, p)
		missing = append(missing, h.enough...)
		if h.text != "" {
			hints = append(hints, h)
		}
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	if len(hints) == 0 {
		return reason, missing
	}
	slices.SortStableFunc(hints, func(a, b hint) int { return a.rank - b.rank })
	return reason + ": it needs " + limited(hints), missing
}

// hint is what the asker lacks for one permit whose action and resource fit.
type hint struct {
	rank   int      // 0 for what a group alone would mend; the higher the further away
	text   string   // "" where nothing can be said
	enough []string // groups of which each alone would have led to an allowing Decision
}

func limited(hints []hint) string {
	var parts []string
	for _, h := range hints[:min(len(hints), maxHints)] {
		parts = append(parts, h.text)
	}
	if more := len(hints) - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("what one of %d more policies asks for", more))
	}
	return strings.Join(parts, ", or ")
}

func (s *Set) hint(r Request, p *rule) hint {
	lacking := without(p.groups, r.Groups)
	enough, further := s.singly(r, p, lacking)
	all := join(r, lacking...)
	switch {
	case len(enough) > 0:
		return hint{0, fmt.Sprintf("%s (%s)", named(enough, "or"), cite([]*rule{p})), enough}
	case len(further) > 0:
		return hint{1, fmt.Sprintf("%s (%s) and a login through the browser with MFA", named(further, "or"), cite([]*rule{p})), nil}
	case s.satisfies(p, all) && s.judge(all).Allow:
		return hint{1, fmt.Sprintf("%s (%s)", named(lacking, "and"), cite([]*rule{p})), nil}
	case s.satisfies(p, all):
		return hint{} // this permit would match, but then another policy denies
	case p.inScope && slices.Contains(lacking, p.scope):
		return hint{2, fmt.Sprintf("group %q and %s", p.scope, conditions(p)), nil}
	}
	return hint{3, conditions(p), nil}
}

// singly tries each group alone: those that are enough, and those that would be with a better login.
func (s *Set) singly(r Request, p *rule, groups []string) (enough, further []string) {
	for _, g := range groups {
		if !s.satisfies(p, join(r, g)) {
			continue
		}
		switch d := s.judge(join(r, g)); {
		case d.Allow:
			enough = append(enough, g)
		case d.Cause == CauseMFA || d.Cause == CauseMethod:
			further = append(further, g)
		}
	}
	return enough, further
}

func conditions(p *rule) string {
	text := fmt.Sprintf("the conditions of policy %q to hold", p.id)
	if p.text != "" {
		text += " (" + p.text + ")"
	}
	return text
}

// satisfies evaluates one policy alone.
func (s *Set) satisfies(p *rule, r Request) bool {
	q, err := newQuery(s.schema, r)
	return err == nil && matches(p.policy, q)
}

func matches(p *cedar.Policy, q *query) bool {
	verdict, diag := cedar.Authorize(ordered{{policy: p}}, q, q.req)
	return verdict == cedar.Allow && len(diag.Errors) == 0
}

// join returns r as if its principal were in further groups.
func join(r Request, groups ...string) Request {
	r.Groups = slices.Concat(r.Groups, groups)
	return r
}

func without(groups, have []string) []string {
	return slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return slices.Contains(have, g) })
}

func named(groups []string, word string) string {
	quoted := make([]string, len(groups))
	for i, g := range groups {
		quoted[i] = fmt.Sprintf("%q", g)
	}
	if len(groups) > 1 && word == "and" {
		return "groups " + joinWords(quoted, word)
	}
	return "group " + joinWords(quoted, word)
}

// joinWords writes "a", "a and b" or "a, b and c".
func joinWords(words []string, word string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " " + word + " " + words[last]
}
