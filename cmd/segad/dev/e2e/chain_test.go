//go:build linux

package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/cmd/segad/dev/devtest"
)

// auditorARN is what STS says of alice's credentials at the end of the chain.
const auditorARN = "arn:aws:sts::111111111111:assumed-role/dev-audit/alice@example.com"

// testChain reaches a role that trusts another one alone, and narrows what it gets, through every
// command that hands out credentials.
func testChain(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	who := []string{"--", "/usr/bin/aws", "sts", "get-caller-identity"}
	run := func(args ...string) devtest.Result {
		return p.Sega(append(append([]string{"exec"}, args...), who...)...)
	}
	expect(t, run("dev-admin", "--chain", "dev-audit"), 0, `"`+auditorARN+`"`)
	expect(t, run("dev-admin"), 0, `"`+aliceARN+`"`) // the cache keeps the two apart
	expect(t, run("dev-admin", "--chain", "dev-audit"), 0, `"`+auditorARN+`"`)
	expect(t, run("dev-audit"), 1, "arn:aws:iam::111111111111:role/dev-audit", "trust policy")
	expect(t, run("dev-admin", "--chain", "prod-readonly"), 3, `role "prod-readonly"`, `group "oncall"`)
	expect(t, run("dev-admin", "--chain", "dev-admin"), 1, "twice")
	expect(t, run("dev-admin", "--chain", "dev-audit", "--duration", "2h"), 0, "from 2h to 1h", auditorARN)

	reviewer := e.LoggedIn(carol)
	newest := func(named string) map[string]any { // others assume roles meanwhile: the newest with that in its details
		t.Helper()
		for _, e := range reviewer.Events("--user", alice, "--kind", "aws.assume", "--outcome", "success", "--newest", "--limit", "50") {
			if details, _ := e["details"].(map[string]any); details[named] != nil {
				return e
			}
		}
		t.Fatalf("no event with %s", named)
		return nil
	}
	assumed := newest("path")
	path, _ := assumed["details"].(map[string]any)["path"].([]any)
	if field(assumed, "resource") != "role/dev-audit" || len(path) != 2 || path[0].(map[string]any)["assumed_role_arn"] != aliceARN || path[1].(map[string]any)["assumed_role_arn"] != auditorARN {
		t.Errorf("event %v", assumed)
	}

	// What narrows the credentials reaches STS, and stands in the log.
	policy := write(t, filepath.Join(t.TempDir(), "policy.json"), "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": {\"Effect\": \"Allow\", \"Action\": \"s3:Get*\", \"Resource\": \"*\"}\n}\n")
	keys := map[string]bool{}
	for name, args := range map[string][]string{
		"plain": {}, "read-only": {"--read-only"}, "policy": {"--policy", policy}, "chain": {"--chain", "dev-audit"}, "chain, read-only": {"--chain", "dev-audit", "--read-only"},
	} {
		first, again := p.Sega(append([]string{"credential-process", "dev-admin"}, args...)...), p.Sega(append([]string{"env", "dev-admin", "--format", "json"}, args...)...)
		expect(t, first, 0)
		expect(t, again, 0)
		var process struct{ AccessKeyId string }
		var env map[string]string
		if err := json.Unmarshal([]byte(first.Out), &process); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(again.Out), &env); err != nil {
			t.Fatal(err)
		}
		if process.AccessKeyId == "" || process.AccessKeyId != env["AWS_ACCESS_KEY_ID"] || keys[process.AccessKeyId] {
			t.Errorf("%s: credential-process gives %s, env %s; other flags gave the same: %v", name, process.AccessKeyId, env["AWS_ACCESS_KEY_ID"], keys[process.AccessKeyId])
		}
		keys[process.AccessKeyId] = true
		if role := env["SEGA_ROLE"]; (role == "dev-audit") != strings.HasPrefix(name, "chain") {
			t.Errorf("%s: the role is %s", name, role)
		}
	}
	expect(t, run("dev-admin", "--read-only", "--duration", "15m"), 0, aliceARN)
	readOnly := map[string]any{"read_only": true, "arns": []any{"arn:aws:iam::aws:policy/ReadOnlyAccess"}}
	if diff := cmp.Diff(readOnly, newest("session_policies")["details"].(map[string]any)["session_policies"]); diff != "" {
		t.Errorf("read-only: -want +got\n%s", diff)
	}
	expect(t, run("dev-admin", "--policy", policy, "--duration", "15m"), 0, aliceARN)
	if got := field(newest("session_policies"), "details.session_policies.policy"); got != `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}}` {
		t.Errorf("policy %s", got)
	}
	expect(t, run("dev-admin", "--policy", policy, "--read-only"), 1, "goes with no other session policy")
	expect(t, run("dev-admin", "--policy", write(t, filepath.Join(t.TempDir(), "p"), "no json")), 2, "is not JSON")
	expect(t, run("dev-admin", "--policy", write(t, filepath.Join(t.TempDir(), "p"), `{"Statement": []}`)), 1, "has no Statement")
}
