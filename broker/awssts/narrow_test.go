package awssts

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// policyOf is a session policy of n characters.
func policyOf(n int) string {
	const empty = `{"Version":"2012-10-17","Statement":[{"Sid":"","Effect":"Allow","Action":"s3:Get*","Resource":"*"}]}`
	return strings.Replace(empty, `"Sid":""`, `"Sid":"`+strings.Repeat("é", n-len(empty))+`"`, 1)
}

func TestNarrow(t *testing.T) {
	const readOnly, own = "arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::222222222222:policy/team/own"
	many := func(n int) (arns []string) {
		for i := range n {
			arns = append(arns, fmt.Sprintf("arn:aws:iam::222222222222:policy/p%d", i))
		}
		return arns
	}
	statement := func(s string) Narrow { return Narrow{Policy: `{"Statement":` + s + `}`} }
	tests := []struct {
		name   string
		n      Narrow
		detail string // "": it is taken
	}{
		{"nothing", Narrow{}, ""},
		{"AWS's and our own", Narrow{PolicyARNs: []string{readOnly, own, "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess"}}, ""},
		{"ten", Narrow{PolicyARNs: many(10)}, ""},
		{"eleven", Narrow{PolicyARNs: many(11)}, "11 policy ARNs"},
		{"one twice", Narrow{PolicyARNs: []string{own, readOnly, own}}, "ARN 3 stands twice"},
		{"of another account", Narrow{PolicyARNs: []string{"arn:aws:iam::444444444444:policy/x"}}, "of account 444444444444"},
		{"of another partition", Narrow{PolicyARNs: []string{readOnly, "arn:aws-us-gov:iam::aws:policy/ReadOnlyAccess"}}, "ARN 2 is not of the role's partition aws"},
		{"a role's ARN", Narrow{PolicyARNs: []string{adminARN}}, "ARN 1 is not one of a managed policy"},
		{"a newline behind", Narrow{PolicyARNs: []string{own + "\n"}}, "ARN 1 is not"},
		{"empty", Narrow{PolicyARNs: []string{""}}, "ARN 1 is not"},
		{"2048 characters", Narrow{Policy: policyOf(2048)}, ""},
		{"2049 characters", Narrow{Policy: policyOf(2049)}, "2049 characters together"},
		{"2048 together", Narrow{Policy: policyOf(2048 - len(own)), PolicyARNs: []string{own}}, ""},
		{"2049 together", Narrow{Policy: policyOf(2049 - len(own)), PolicyARNs: []string{own}}, "2049 characters together"},
		{"U+00FF", statement(`{"Effect":"Allow","Action":"ÿ","Resource":"*"}`), ""},
		{"U+0100", statement(`{"Effect":"Allow","Action":"Ā","Resource":"*"}`), "the character U+0100"},
		{"an escape of it", statement(`{"Effect":"Allow","Action":"\u0100","Resource":"*"}`), ""},
		{"broken UTF-8", statement("{\"Effect\":\"Allow\",\"Action\":\"\xff\",\"Resource\":\"*\"}"), "not UTF-8"},
		{"no JSON", Narrow{Policy: "{"}, "not a JSON object"},
		{"a list", Narrow{Policy: "[]"}, "not a JSON object"},
		{"more behind it", Narrow{Policy: policyOf(200) + "{}"}, "not a JSON object"},
		{"no statement", Narrow{Policy: `{"Version":"2012-10-17"}`}, "has no Statement"},
		{"no statement in it", statement(`[]`), "has no Statement"},
		{"a word for a statement", statement(`"Allow"`), "has no Statement"},
		{"null", statement(`null`), "has no Statement"},
		{"no effect", statement(`[{"Effect":"Deny","Action":"*","Resource":"*"},{"Action":"*","Resource":"*"}]`), "statement 2 of the session policy has no Effect"},
		{"another effect", statement(`{"Effect":"allow","Action":"*","Resource":"*"}`), "has no Effect"},
		{"a principal", statement(`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}`), "names a principal"},
		{"no action", statement(`{"Effect":"Allow","Resource":"*"}`), "must have Action"},
		{"no resource", statement(`{"Effect":"Allow","Action":"*"}`), "must have Resource"},
		{"by exception", statement(`{"Effect":"Allow","NotAction":"iam:*","NotResource":"arn:aws:s3:::x"}`), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.n.Validate(adminARN)
			if tt.detail == "" && err != nil {
				t.Fatal(err)
			}
			var e *Error
			if tt.detail != "" && (!errors.As(err, &e) || e.Kind != KindInvalid || !strings.Contains(e.Detail, tt.detail)) {
				t.Errorf("%v; want %q", err, tt.detail)
			}
		})
	}
}

// TestReadOnly: only AWS's own policy, alone, makes a session read-only. A second one would add to it.
func TestReadOnly(t *testing.T) {
	const own = "arn:aws:iam::222222222222:policy/x"
	for role, arn := range map[string]string{
		adminARN: "arn:aws:iam::aws:policy/ReadOnlyAccess",
		"arn:aws-us-gov:iam::222222222222:role/admin": "arn:aws-us-gov:iam::aws:policy/ReadOnlyAccess",
		"arn:aws-cn:iam::222222222222:role/admin":     "arn:aws-cn:iam::aws:policy/ReadOnlyAccess",
	} {
		if got := ReadOnlyAccess(role); got != arn {
			t.Errorf("%s: %s", role, got)
		}
		for _, n := range []struct {
			Narrow
			want bool
		}{
			{Narrow{}, false}, {Narrow{PolicyARNs: []string{arn}}, true}, {Narrow{PolicyARNs: []string{own}}, false}, {Narrow{PolicyARNs: []string{arn, own}}, false},
			{Narrow{PolicyARNs: []string{arn}, Policy: policyOf(200)}, false}, {Narrow{Policy: policyOf(200)}, false},
			{Narrow{PolicyARNs: []string{strings.Replace(arn, "ReadOnly", "readonly", 1)}}, false}, {Narrow{PolicyARNs: []string{strings.Replace(arn, "::aws:", "::222222222222:", 1)}}, false},
		} {
			if n.ReadOnly(role) != n.want {
				t.Errorf("%+v of %s: %v", n.Narrow, role, n.ReadOnly(role))
			}
		}
	}
}

// FuzzNarrow: what is taken keeps AWS's limits, and leaving white space out changes no meaning.
func FuzzNarrow(f *testing.F) {
	f.Add(policyOf(200), ReadOnlyAccess(adminARN))
	f.Add(`{ "Statement" : [ { "Effect" : "Deny", "NotAction" : [ "a b" ], "Resource" : "*" } ] }`, "")
	f.Add("{\"Statement\":{\"Effect\":\"Allow\"}}\xff", "arn:aws:iam::222222222222:policy/a/b")
	f.Fuzz(func(t *testing.T, policy, arn string) {
		n := Narrow{Policy: policy}
		if arn != "" {
			n.PolicyARNs = []string{arn}
		}
		c := n.Compact()
		if again := c.Compact(); again.Policy != c.Policy {
			t.Errorf("compacted twice %q is %q", c.Policy, again.Policy)
		}
		var was, is any
		if json.Unmarshal([]byte(policy), &was) == nil {
			if json.Unmarshal([]byte(c.Policy), &is) != nil || fmt.Sprint(was) != fmt.Sprint(is) {
				t.Errorf("%q means something else than %q", c.Policy, policy)
			}
		}
		if c.Validate(adminARN) != nil {
			return
		}
		if utf8.RuneCountInString(c.Policy)+len(arn) > maxPolicyChars || strings.ContainsFunc(c.Policy, func(r rune) bool { return r > 0xff }) || policy != "" && !json.Valid([]byte(c.Policy)) {
			t.Errorf("AWS would not take %q with %q", c.Policy, arn)
		}
	})
}
