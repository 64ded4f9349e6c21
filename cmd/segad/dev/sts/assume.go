package sts

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Grammars of AssumeRole's parameters (STS API reference).
var (
	nameRule     = regexp.MustCompile(`\A[\w+=,.@-]{2,64}\z`)
	externalRule = regexp.MustCompile(`\A[\w+=,.@:/-]+\z`)
	policyRule   = regexp.MustCompile(`\A[\x{0009}\x{000A}\x{000D}\x{0020}-\x{00FF}]+\z`)
	tagRule      = regexp.MustCompile(`\A[\p{L}\p{Z}\p{N}_.:/=+\-@]*\z`)
	serialRule   = regexp.MustCompile(`\A[\w+=/:,.@-]{9,256}\z`)
	codeRule     = regexp.MustCompile(`\A[0-9]{6}\z`)
	policyARN    = regexp.MustCompile(`\Aarn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[\x21-\x7e]+\z`)
)

// assumption is a checked AssumeRole call.
type assumption struct {
	roleARN, sessionName, externalID, sourceIdentity string
	duration                                         time.Duration
	tags                                             []tag
	transitive                                       []string
	policy                                           string
	policyARNs                                       []string
}

// parseAssume checks every parameter on its own; what depends on the role comes later. Beside a
// fault it returns what was asked for, for the record.
func parseAssume(f form) (assumption, *fault) {
	a := assumption{roleARN: f.values["RoleArn"], sessionName: f.values["RoleSessionName"], externalID: f.values["ExternalId"],
		sourceIdentity: f.values["SourceIdentity"], tags: f.tags, transitive: f.keys, policy: f.values["Policy"], policyARNs: f.arns}
	for _, check := range []func() *fault{
		func() *fault { return checkNames(f) },
		func() *fault { return a.takeDuration(f) },
		func() *fault { return checkPolicies(f) },
		func() *fault { return checkTags(f) },
		func() *fault { return checkMFA(f) },
	} {
		if bad := check(); bad != nil {
			return a, bad
		}
	}
	return a, nil
}

// checkNames checks the strings that have a grammar of their own.
func checkNames(f form) *fault {
	for _, p := range []struct {
		name, must string
		required   bool
		fits       func(string) bool
	}{
		{"RoleArn", "Member must have length between 20 and 2048", true, func(s string) bool { return len(s) >= 20 && len(s) <= 2048 }},
		{"RoleSessionName", "Member must satisfy regular expression pattern: [\\w+=,.@-]{2,64}", true, nameRule.MatchString},
		{"ExternalId", "Member must satisfy regular expression pattern: [\\w+=,.@:\\/-]{2,1224}", false, func(s string) bool { return len(s) >= 2 && len(s) <= 1224 && externalRule.MatchString(s) }},
		{"SourceIdentity", "Member must satisfy regular expression pattern: [\\w+=,.@-]{2,64}", false, nameRule.MatchString},
	} {
		v, given := f.values[p.name]
		if !given && p.required {
			return constraint(p.name, "Member must not be null")
		}
		if given && !p.fits(v) {
			return constraint(p.name, p.must)
		}
	}
	if !roleARN.MatchString(f.values["RoleArn"]) {
		return validation(f.values["RoleArn"] + " is invalid")
	}
	return nil
}

func (a *assumption) takeDuration(f form) *fault {
	a.duration = time.Hour
	v, given := f.values["DurationSeconds"]
	if !given {
		return nil
	}
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		return constraint("DurationSeconds", "Member must be an integer")
	}
	if n < 900 {
		return constraint("DurationSeconds", "Member must have value greater than or equal to 900")
	}
	if n > 43200 {
		return constraint("DurationSeconds", "Member must have value less than or equal to 43200")
	}
	a.duration = time.Duration(n) * time.Second
	return nil
}

func checkPolicies(f form) *fault {
	policy, given := f.values["Policy"]
	total := utf8.RuneCountInString(policy)
	if given && (total < 1 || total > 2048 || !policyRule.MatchString(policy)) {
		return constraint("Policy", "Member must have length between 1 and 2048")
	}
	if given {
		if bad := checkDocument(policy); bad != nil {
			return bad
		}
	}
	if len(f.arns) > 10 {
		return constraint("PolicyArns", "Member must have length less than or equal to 10")
	}
	account := roleARN.FindStringSubmatch(f.values["RoleArn"])[1]
	for _, arn := range f.arns {
		m := policyARN.FindStringSubmatch(arn)
		if m == nil || len(arn) < 20 || len(arn) > 2048 || (m[1] != account && m[1] != "aws") {
			return constraint("PolicyArns", "Member must be the ARN of a managed policy of the role's account")
		}
		total += len(arn)
	}
	if total > 2048 {
		return validation("The plaintext of policy and policy ARNs exceeds 2048 characters")
	}
	return nil
}

// checkDocument asks of a session policy what IAM asks of every policy, and that it names no principal.
func checkDocument(policy string) *fault {
	malformed := func(msg string) *fault { return &fault{"MalformedPolicyDocument", http.StatusBadRequest, msg} }
	var document struct{ Statement json.RawMessage }
	if json.Unmarshal([]byte(policy), &document) != nil {
		return malformed("This policy contains invalid Json")
	}
	type statement = map[string]json.RawMessage
	var list []statement
	if json.Unmarshal(document.Statement, &list) != nil {
		var one statement
		if json.Unmarshal(document.Statement, &one) != nil {
			return malformed("Syntax errors in policy.")
		}
		list = []statement{one}
	}
	for _, s := range list {
		effect := string(s["Effect"])
		if s["Principal"] != nil || s["NotPrincipal"] != nil {
			return malformed("Policy document should not specify a principal.")
		}
		if effect != `"Allow"` && effect != `"Deny"` || (s["Action"] == nil) == (s["NotAction"] == nil) || (s["Resource"] == nil) == (s["NotResource"] == nil) {
			return malformed("Syntax errors in policy.")
		}
	}
	if len(list) == 0 {
		return malformed("Syntax errors in policy.")
	}
	return nil
}

func checkTags(f form) *fault {
	if len(f.tags) > 50 {
		return constraint("Tags", "Member must have length less than or equal to 50")
	}
	if len(f.keys) > 50 {
		return constraint("TransitiveTagKeys", "Member must have length less than or equal to 50")
	}
	seen := map[string]bool{}
	for _, t := range f.tags {
		fold := strings.ToLower(t.Key)
		switch n := utf8.RuneCountInString(t.Key); {
		case n < 1 || n > 128 || !tagRule.MatchString(t.Key):
			return constraint("Tags.member.Key", "Member must satisfy regular expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]{1,128}")
		case strings.HasPrefix(fold, "aws:"):
			return validation("Tag keys that begin with aws: are reserved")
		case utf8.RuneCountInString(t.Value) > 256 || !tagRule.MatchString(t.Value):
			return constraint("Tags.member.Value", "Member must satisfy regular expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]{0,256}")
		case seen[fold]:
			return &fault{"InvalidParameterValue", http.StatusBadRequest, "Duplicate tag keys found. Please note that Tag keys are case insensitive."}
		}
		seen[fold] = true
	}
	for _, k := range f.keys {
		if !seen[strings.ToLower(k)] {
			return &fault{"InvalidParameterValue", http.StatusBadRequest, "The specified transitive tag key must be included in the requested tags."}
		}
	}
	return nil
}

// checkMFA knows no AWS MFA device: a well-formed code is a wrong one.
func checkMFA(f form) *fault {
	serial, haveSerial := f.values["SerialNumber"]
	code, haveCode := f.values["TokenCode"]
	switch {
	case !haveSerial && !haveCode:
		return nil
	case !haveSerial || !serialRule.MatchString(serial):
		return constraint("SerialNumber", "Member must have length between 9 and 256")
	case !haveCode || !codeRule.MatchString(code):
		return constraint("TokenCode", "Member must satisfy regular expression pattern: [\\d]{6}")
	}
	return denied("MultiFactorAuthentication failed with invalid MFA one time pass code. ")
}

// authorise applies the role's trust policy and the rules of chaining, and fixes the source
// identity, which a chained session inherits. AWS does not tell a role that is missing from one
// that does not trust.
func (a *assumption) authorise(p principal, r Role, known bool) *fault {
	refuse := func(action string) *fault {
		return denied("User: " + p.arn + " is not authorized to perform: " + action + " on resource: " + a.roleARN)
	}
	if !known || !r.trusts(p) || (r.ExternalID != "" && r.ExternalID != a.externalID) {
		return refuse("sts:AssumeRole")
	}
	if p.sourceIdentity != "" {
		if a.sourceIdentity != "" && a.sourceIdentity != p.sourceIdentity {
			return denied("SourceIdentity of a role session cannot be changed: the caller's is already set")
		}
		a.sourceIdentity = p.sourceIdentity
	}
	if a.sourceIdentity != "" && !r.AllowSourceIdentity {
		return refuse("sts:SetSourceIdentity")
	}
	if len(a.tags)+len(p.transitive) > 0 && !r.AllowTag {
		return refuse("sts:TagSession")
	}
	return a.fitsSession(p, r)
}

// fitsSession checks length and tags against the role and the caller's own session.
func (a *assumption) fitsSession(p principal, r Role) *fault {
	if p.session() && a.duration > time.Hour {
		return validation("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	if a.duration > r.max() {
		return validation("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	for _, t := range a.tags {
		if slices.ContainsFunc(p.transitive, func(o tag) bool { return strings.EqualFold(o.Key, t.Key) }) {
			return &fault{"InvalidParameterValue", http.StatusBadRequest, "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session."}
		}
	}
	return nil
}

// inherited returns the transitive tags of the new session: the caller's and its own.
func (a assumption) inherited(p principal) []tag {
	out := slices.Clone(p.transitive)
	for _, t := range a.tags {
		if slices.ContainsFunc(a.transitive, func(k string) bool { return strings.EqualFold(k, t.Key) }) {
			out = append(out, t)
		}
	}
	return out
}
