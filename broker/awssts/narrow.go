package awssts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of session policies (STS API reference, AssumeRole, Policy and PolicyArns).
const (
	maxPolicyARNs  = 10
	maxPolicyChars = 2048 // of the policy and all ARNs together, in characters of plain text
)

// Narrow holds session policies. AWS gives a session what its role has and at least one of them
// allows; a deny in any of them counts (IAM User Guide, "Session policies"). The zero value narrows
// nothing.
type Narrow struct {
	Policy     string   // an IAM policy, JSON; empty: none
	PolicyARNs []string // managed policies, of AWS or of the role's account
}

// IsZero reports whether n narrows nothing.
func (n Narrow) IsZero() bool { return n.Policy == "" && len(n.PolicyARNs) == 0 }

// ReadOnly reports whether n is AWS's ReadOnlyAccess of the role's partition and nothing beside it:
// further policies would add to what the session may.
func (n Narrow) ReadOnly(roleARN string) bool {
	return n.Policy == "" && len(n.PolicyARNs) == 1 && n.PolicyARNs[0] == ReadOnlyAccess(roleARN)
}

// ReadOnlyAccess returns the ARN of AWS's managed policy ReadOnlyAccess in the role's partition.
func ReadOnlyAccess(roleARN string) string {
	return "arn:" + partition(roleARN) + ":iam::aws:policy/ReadOnlyAccess"
}

// partition returns the second part of an ARN.
func partition(arn string) string {
	parts := strings.SplitN(arn, ":", 3)
	if len(parts) < 3 {
		return ""
	}
	return parts[1]
}

// account returns the account of an ARN.
func account(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

// Compact returns n with the white space of its policy left out, for AWS counts it. What is no JSON
// stays as it is.
func (n Narrow) Compact() Narrow {
	var b bytes.Buffer
	if n.Policy != "" && json.Compact(&b, []byte(n.Policy)) == nil {
		n.Policy = b.String()
	}
	return n
}

var policyRule = regexp.MustCompile(`\Aarn:aws(-[a-z]+)*:iam::([0-9]{12}|aws):policy/([\x21-\x7e]+/)?[\w+=,.@-]{1,128}\z`)

// Validate checks n as AWS will for a session of the role. Its errors are of KindInvalid and say
// what to change; they quote no policy.
func (n Narrow) Validate(roleARN string) error {
	if len(n.PolicyARNs) > maxPolicyARNs {
		return invalid(fmt.Sprintf("there are %d policy ARNs, and AWS takes %d at most", len(n.PolicyARNs), maxPolicyARNs), "")
	}
	total := utf8.RuneCountInString(n.Policy)
	for i, arn := range n.PolicyARNs {
		total += len(arn)
		switch {
		case len(arn) < 20 || !policyRule.MatchString(arn):
			return invalid(fmt.Sprintf("policy ARN %d is not one of a managed policy", i+1), "write it like "+ReadOnlyAccess(roleARN))
		case partition(arn) != partition(roleARN):
			return invalid(fmt.Sprintf("policy ARN %d is not of the role's partition %s", i+1, partition(roleARN)), "write it like "+ReadOnlyAccess(roleARN))
		case account(arn) != "aws" && account(arn) != account(roleARN):
			return invalid(fmt.Sprintf("policy ARN %d is of account %s: AWS takes policies of the role's account %s and its own", i+1, account(arn), account(roleARN)), "")
		case slices.Contains(n.PolicyARNs[:i], arn):
			return invalid(fmt.Sprintf("policy ARN %d stands twice", i+1), "")
		}
	}
	if total > maxPolicyChars {
		return invalid(fmt.Sprintf("session policy and policy ARNs have %d characters together, and AWS takes %d", total, maxPolicyChars),
			"white space between the parts is left out already: shorten the policy, or keep it as a managed policy of the role's account")
	}
	return validatePolicy(n.Policy)
}

// validatePolicy looks at an inline policy as far as AWS's answer, "MalformedPolicyDocument", would
// not say what is wrong.
func validatePolicy(policy string) error {
	if policy == "" {
		return nil
	}
	if !utf8.ValidString(policy) {
		return invalid("the session policy is not UTF-8", "")
	}
	for _, r := range policy {
		if r != '\t' && r != '\n' && r != '\r' && (r < ' ' || r > 0xff) {
			return invalid(fmt.Sprintf("the session policy holds the character %U, and AWS takes none above U+00FF", r), "write it as an escape of JSON, like \\u2026")
		}
	}
	var document struct{ Statement json.RawMessage }
	if err := json.Unmarshal([]byte(policy), &document); err != nil {
		return invalid("the session policy is not a JSON object", "check it with: python3 -m json.tool FILE")
	}
	statements, ok := statementsOf(document.Statement)
	if !ok {
		return invalid("the session policy has no Statement", `a policy is {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": …, "Resource": …}]}`)
	}
	for i, s := range statements {
		if err := s.validate(i + 1); err != nil {
			return err
		}
	}
	return nil
}

// statement is what of a policy's statement is looked at. Go matches names whatever their case.
type statement struct {
	Effect                  string
	Action, NotAction       json.RawMessage
	Resource, NotResource   json.RawMessage
	Principal, NotPrincipal json.RawMessage
}

// statementsOf reads one statement or a list of them.
func statementsOf(raw json.RawMessage) ([]statement, bool) {
	var list []statement
	if json.Unmarshal(raw, &list) == nil {
		return list, len(list) > 0
	}
	var one statement
	if json.Unmarshal(raw, &one) != nil {
		return nil, false
	}
	return []statement{one}, true
}

func (s statement) validate(n int) error {
	switch {
	case s.Effect != "Allow" && s.Effect != "Deny":
		return invalid(fmt.Sprintf("statement %d of the session policy has no Effect, which is Allow or Deny", n), "")
	case s.Principal != nil || s.NotPrincipal != nil:
		return invalid(fmt.Sprintf("statement %d of the session policy names a principal", n), "a session policy is about its own session: leave Principal out")
	case (s.Action == nil) == (s.NotAction == nil):
		return invalid(fmt.Sprintf("statement %d of the session policy must have Action or NotAction", n), "")
	case (s.Resource == nil) == (s.NotResource == nil):
		return invalid(fmt.Sprintf("statement %d of the session policy must have Resource or NotResource", n), "")
	}
	return nil
}
