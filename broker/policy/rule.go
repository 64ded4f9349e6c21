package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// maxID bounds the length of an @id in bytes.
const maxID = 100

// rule is a policy as loaded.
type rule struct {
	id          string
	permit      bool
	text        string // @reason, "" if none
	terms       Obligations
	deviceGrant bool
	noMFA       bool
	byKey       bool // for registered keys
	named       bool // the scope names its actions
	policy      *cedar.Policy

	// For explaining denials, of permits only.
	reach  *cedar.Policy // what of it the asker cannot change; see study
	scope  string        // the group of "principal in Group::…", with inScope
	groups []string      // every group that the policy names, the scope's included; sorted

	inScope bool

	ever *cedar.Policy // see mayEver; nil: depends on circumstances alone
}

func newRule(p *cedar.Policy) (*rule, error) {
	r := &rule{permit: p.Effect() == cedar.Permit, policy: p}
	var errs []error
	for key, value := range p.Annotations() {
		errs = append(errs, r.annotate(key, string(value)))
	}
	if r.id == "" {
		errs = append(errs, errors.New(`no @id: give every policy a unique @id("…")`))
	}
	tree := (*ast.Policy)(p.AST())
	_, every := tree.Action.(ast.ScopeTypeAll)
	r.named = !every
	errs = append(errs, checkResource(tree))
	if r.permit {
		r.study(tree)
	}
	r.mayEver(tree)
	return r, errors.Join(errs...)
}

// annotate takes one annotation in.
func (r *rule) annotate(key types.AnnotationKey, value string) (err error) {
	switch key {
	case "id":
		r.id = value
		return checkID(value)
	case "reason":
		r.text = value
		return checkText(value)
	case "description":
		return nil
	}
	switch key {
	case "max_duration":
		r.terms.MaxDuration, err = seconds(value)
	case "max_idle":
		r.terms.MaxIdle, err = seconds(value)
	case "max_auth_age":
		r.terms.MaxAuthAge, err = seconds(value)
	case "require_reason":
		r.terms.NeedReason, err = exactly("yes", value)
	case "require_ticket":
		r.terms.NeedTicket, err = exactly("yes", value)
	case "device_grant":
		r.deviceGrant, err = exactly("allowed", value)
	case "require_hardware_key":
		r.terms.NeedHardware, err = exactly("yes", value)
	case "require_user_verification":
		r.terms.NeedVerified, err = exactly("yes", value)
	case "registered_key":
		r.byKey, err = exactly("allowed", value)
	case "no_mfa":
		r.noMFA, err = exactly("allowed", value)
	default:
		return fmt.Errorf("unknown annotation @%s", key)
	}
	if err != nil {
		return fmt.Errorf("@%s(%q): %w", key, value, err)
	}
	if !r.permit {
		return fmt.Errorf("@%s has no meaning on a forbid", key)
	}
	return nil
}

// checkID keeps IDs plain: they stand in audit events, error messages and command lines.
func checkID(id string) error {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c)
	}
	if len(id) > maxID || strings.ContainsFunc(id, func(c rune) bool { return !plain(c) }) {
		return fmt.Errorf("@id(%q): use at most %d letters, digits and . _ -", id, maxID)
	}
	return nil
}

// checkText refuses what would act on the terminal of whoever reads it.
func checkText(text string) error {
	if strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return fmt.Errorf("@reason(%q): holds characters that cannot be printed", text)
	}
	return nil
}

func seconds(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil {
		return 0, errors.New(`not a duration such as "1h" or "90m"`)
	}
	if d < time.Second || d%time.Second != 0 {
		return 0, errors.New("not a positive number of whole seconds")
	}
	return d, nil
}

func exactly(want, value string) (bool, error) {
	if value != want {
		return false, fmt.Errorf("the one value it may have is %q", want)
	}
	return true, nil
}

// checkResource refuses "resource in …": no resource has parents here, and a user's groups are
// known only while he asks, so a forbid on them would silently never match.
func checkResource(p *ast.Policy) error {
	found := false
	switch p.Resource.(type) {
	case ast.ScopeTypeIn, ast.ScopeTypeIsIn:
		found = true
	}
	walk(p, func(n ast.IsNode) {
		switch n := n.(type) {
		case ast.NodeTypeIn:
			found = found || isResource(n.Left)
		case ast.NodeTypeIsIn:
			found = found || isResource(n.Left)
		}
	})
	if found {
		return errors.New(`"resource in" never holds, for resources have no parents: compare with == or use tags`)
	}
	return nil
}

func isResource(n ast.IsNode) bool {
	v, ok := n.(ast.NodeTypeVariable)
	return ok && v.Name == "resource"
}

// walk calls f for every node of the conditions.
func walk(p *ast.Policy, f func(ast.IsNode)) {
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			f(n)
			return true
		})
	}
}
