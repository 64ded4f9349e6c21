package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go"
	cedarast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// study prepares what an explanation of a denial needs to know about a permit. Its reach is what
// the asker cannot change by joining a group or by asking in another way: action, resource, who is
// named in person, and the conditions on the resource alone. Who is out of reach is not told of it.
func (r *rule) study(p *ast.Policy) {
	open := &ast.Policy{Effect: p.Effect, Principal: p.Principal, Action: p.Action, Resource: p.Resource, Conditions: fixed(p, "principal", "context")}
	switch s := p.Principal.(type) {
	case ast.ScopeTypeIn:
		if s.Entity.Type == typeGroup {
			r.scope, r.inScope = string(s.Entity.ID), true
			open.Principal = ast.ScopeTypeAll{}
		}
	case ast.ScopeTypeIsIn:
		if s.Entity.Type == typeGroup {
			r.scope, r.inScope = string(s.Entity.ID), true
			open.Principal = ast.ScopeTypeIs{Type: s.Type}
		}
	}
	r.reach = cedar.NewPolicyFromAST((*cedarast.Policy)(open))
	r.groups = groupsOf(p, r.scope, r.inScope)
}

// mayEver prepares Possible: the policy without what depends on the circumstances. Of a forbid that
// depends on them nothing is left.
func (r *rule) mayEver(p *ast.Policy) {
	always := fixed(p, "context")
	if !r.permit && mentionsAny(p, "context") {
		return
	}
	r.ever = cedar.NewPolicyFromAST((*cedarast.Policy)(&ast.Policy{Effect: ast.EffectPermit, Principal: p.Principal, Action: p.Action, Resource: p.Resource, Conditions: always}))
}

func mentionsAny(p *ast.Policy, variables ...types.String) bool {
	return slices.ContainsFunc(p.Conditions, func(c ast.ConditionType) bool { return mentions(c.Body, variables...) })
}

// Possible reports whether r could be permitted under other circumstances: not where a permit lacks
// for who asks and for what, and not where a forbid needs no circumstances. It errs on the side of
// true, and is no decision.
func (s *Set) Possible(r Request) bool {
	if s == nil {
		return false
	}
	q, err := newQuery(s.schema, r)
	if err != nil {
		return false
	}
	permitted := false
	for _, p := range s.rules {
		if p.ever == nil || p.permit && !p.named && byName(r.Action) {
			continue
		}
		verdict, diag := cedar.Authorize(ordered{{policy: p.ever}}, q, q.req)
		switch matched := verdict == cedar.Allow; {
		case p.permit:
			permitted = permitted || matched || len(diag.Errors) > 0
		case matched:
			return false
		}
	}
	return permitted
}

// fixed returns the conditions, parts of conjunctions on their own, that speak of none of the variables.
func fixed(p *ast.Policy, variables ...types.String) []ast.ConditionType {
	var conditions []ast.ConditionType
	for _, c := range p.Conditions {
		parts := []ast.IsNode{c.Body}
		if c.Condition == ast.ConditionWhen {
			parts = conjuncts(c.Body)
		}
		for _, part := range parts {
			if !mentions(part, variables...) {
				conditions = append(conditions, ast.ConditionType{Condition: c.Condition, Body: part})
			}
		}
	}
	return conditions
}

// conjuncts splits "a && b && c", in order, so that a guard stays before what it guards.
func conjuncts(n ast.IsNode) []ast.IsNode {
	and, ok := n.(ast.NodeTypeAnd)
	if !ok {
		return []ast.IsNode{n}
	}
	return append(conjuncts(and.Left), conjuncts(and.Right)...)
}

func mentions(n ast.IsNode, variables ...types.String) bool {
	found := false
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		v, ok := n.(ast.NodeTypeVariable)
		found = found || ok && slices.Contains(variables, v.Name)
		return !found
	})
	return found
}

func groupsOf(p *ast.Policy, scope string, inScope bool) []string {
	var groups []string
	if inScope {
		groups = append(groups, scope)
	}
	walk(p, func(n ast.IsNode) {
		v, ok := n.(ast.NodeValue)
		if !ok {
			return
		}
		if uid, ok := v.Value.(types.EntityUID); ok && uid.Type == typeGroup {
			groups = append(groups, string(uid.ID))
		}
	})
	slices.Sort(groups)
	return slices.Compact(groups)
}
