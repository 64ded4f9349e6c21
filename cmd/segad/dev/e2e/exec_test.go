//go:build linux

package e2e

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/cmd/segad/dev/devtest"
)

// aliceARN is what STS says of alice's credentials.
const aliceARN = "arn:aws:sts::111111111111:assumed-role/dev-admin/alice@example.com"

func testExec(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	expect(t, p.Sega("exec", "dev-admin", "--", "/usr/bin/aws", "sts", "get-caller-identity"), 0, `"`+aliceARN+`"`)
	expect(t, p.Sega("exec", "dev-admin", "--", "sh", "-c", "exit 7"), 7)
	expect(t, p.Sega("exec", "dev-admin", "--", "sh", "-c", "exit 255"), 255)
	expect(t, p.RunInput("typed", "sega", "exec", "dev-admin", "--", "cat"), 0, "typed")
	// Without a command it is a shell.
	expect(t, p.RunInput("echo I am $SEGA_ROLE; exit 9\n", "env", "SHELL=/bin/sh", "sega", "exec", "dev-admin"), 9, "I am dev-admin")
	// The policy that would permit and the group that is missing, and no child.
	marker := filepath.Join(t.TempDir(), "ran")
	expect(t, p.Sega("exec", "prod-readonly", "--", "touch", marker), 3, `group "oncall"`, `policy "oncall-prod-readonly"`)
	expect(t, p.Run("test", "-e", marker), 1)
	expect(t, p.Sega("exec", "no-such-role", "--", "true"), 3, "no-such-role")
	expect(t, e.LoggedIn(bob).Sega("exec", "prod-readonly", "--", "/usr/bin/aws", "sts", "get-caller-identity"), 0,
		"222222222222:assumed-role/prod-readonly/bob@example.com")
}

// testProfile uses `sega credential-process` from a profile, as the AWS CLI and boto3 do.
func testProfile(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	config := write(t, filepath.Join(t.TempDir(), "config"), "[profile dev]\ncredential_process = sega credential-process dev-admin\n")
	profile := []string{"AWS_CONFIG_FILE=" + config, "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_PROFILE=dev"}
	for name, argv := range map[string][]string{
		"aws":   {"/usr/bin/aws", "sts", "get-caller-identity", "--query", "Arn", "--output", "text"},
		"boto3": {"/usr/bin/python3", "-c", `import boto3; print(boto3.client("sts").get_caller_identity()["Arn"])`},
	} {
		r := p.Run("env", append(profile, argv...)...)
		if r.Code != 0 || strings.TrimSpace(r.Out) != aliceARN {
			t.Errorf("%s: exit %d\n%s%s", name, r.Code, r.Out, r.Err)
		}
	}
	var out struct {
		Version                                    int
		AccessKeyId, SecretAccessKey, SessionToken string
		Expiration                                 time.Time
	}
	r := p.Sega("credential-process", "dev-admin")
	expect(t, r, 0)
	if err := json.Unmarshal([]byte(r.Out), &out); err != nil || out.Version != 1 || out.AccessKeyId == "" || out.SecretAccessKey == "" || out.SessionToken == "" {
		t.Errorf("not of the form of AWS's process credentials (%v)", err)
	}
	if left := time.Until(out.Expiration); left < 10*time.Minute || left > time.Hour {
		t.Errorf("the credentials live for another %v", left)
	}
}

// envForms read one line of each format of `sega env` back.
var envForms = map[string]struct {
	remove  string // begins a line that removes a variable
	line    *regexp.Regexp
	unquote *strings.Replacer
}{
	"shell":      {"unset AWS_", regexp.MustCompile(`^export (\w+)='(.*)'$`), strings.NewReplacer(`'\''`, `'`)},
	"fish":       {"set -e AWS_", regexp.MustCompile(`^set -gx (\w+) '(.*)'$`), strings.NewReplacer(`\\`, `\`, `\'`, `'`)},
	"powershell": {"Remove-Item Env:AWS_", regexp.MustCompile(`^\$Env:(\w+) = '(.*)'$`), strings.NewReplacer(`''`, `'`)},
	"dotenv":     {"", regexp.MustCompile(`^(\w+)=([^"'\\$ ]*)$`), strings.NewReplacer()},
}

func testEnv(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	r := p.Sega("env", "dev-admin", "--format", "json")
	expect(t, r, 0)
	var want map[string]string
	if err := json.Unmarshal([]byte(r.Out), &want); err != nil {
		t.Fatal(err)
	}
	if strings.Count(r.Out, "\n") != 1 || want["SEGA_ROLE"] != "dev-admin" || want["AWS_SESSION_TOKEN"] == "" {
		t.Errorf("%d variables, role %q", len(want), want["SEGA_ROLE"])
	}
	for format, form := range envForms {
		r := p.Sega("env", "dev-admin", "--format", format)
		expect(t, r, 0)
		got := map[string]string{}
		for line := range strings.Lines(r.Out) {
			if form.remove != "" && strings.HasPrefix(line, form.remove) {
				continue
			}
			m := form.line.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
			if m == nil {
				t.Fatalf("%s: a line is not of its form", format)
			}
			got[m[1]] = form.unquote.Replace(m[2])
		}
		if diff := cmp.Diff(want, got); diff != "" { // the cached credentials are the same
			t.Errorf("%s: %s", format, diff)
		}
	}
	expect(t, p.Run("sh", "-c", `eval "$(sega env dev-admin)" && /usr/bin/aws sts get-caller-identity`), 0, aliceARN)
	expect(t, p.Sega("env", "dev-admin", "--format", "csv"), 2, "powershell")
}

// testStale holds what a child finds in its environment (design §5).
func testStale(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	var status struct {
		LoginID string `json:"login_id"`
	}
	if err := json.Unmarshal([]byte(p.Sega("status", "--json").Out), &status); err != nil {
		t.Fatal(err)
	}
	stale := []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION", "AWS_PROFILE",
		"AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN", "SEGA_ROLE", "SEGA_SESSION"}
	argv := []string{"AWS_PAGER=cat", "AWS_MAX_ATTEMPTS=2"}
	for _, name := range stale {
		argv = append(argv, name+"=stale")
	}
	for delivery, keys := range map[string]bool{"--no-agent": true, "--env": true, "--env=false": false} {
		got := childOf(t, p, argv, delivery)
		expires, err := time.Parse(time.RFC3339, got["AWS_CREDENTIAL_EXPIRATION"])
		if left := time.Until(expires); keys && (err != nil || left < 0 || left > time.Hour) {
			t.Errorf("%s: expiration in %v, %v", delivery, left, err)
		}
		if haveKey, haveEndpoint := got["AWS_ACCESS_KEY_ID"] != "", got["AWS_CONTAINER_CREDENTIALS_FULL_URI"] != ""; haveKey != keys || haveEndpoint == keys {
			t.Errorf("%s: key %v, endpoint %v", delivery, haveKey, haveEndpoint)
		}
		for name, value := range map[string]string{"AWS_PAGER": "cat", "AWS_MAX_ATTEMPTS": "2", "AWS_REGION": "us-east-1", "SEGA_ROLE": "dev-admin", "SEGA_SESSION": status.LoginID} {
			if got[name] != value {
				t.Errorf("%s: %s is %q, want %q", delivery, name, got[name], value)
			}
		}
	}
}

// childOf returns the environment of a command under sega, started in one that argv adds to.
func childOf(t *testing.T, p *devtest.Person, argv []string, flag string) map[string]string {
	t.Helper()
	r := p.Run("env", append(slices.Clone(argv), "sega", "exec", "dev-admin", flag, "--", "env")...)
	expect(t, r, 0)
	got := map[string]string{}
	for line := range strings.Lines(r.Out) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, twice := got[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		if value == "stale" {
			t.Errorf("%s reached the child", name)
		}
		got[name] = value
	}
	return got
}

// testDelivery: what would be asked before the endpoint takes its place, and what would end too early
// does not begin.
func testDelivery(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	other := write(t, filepath.Join(t.TempDir(), "credentials"), "[default]\naws_access_key_id = AKIAEXAMPLE0000000AB\naws_secret_access_key = canary\n")
	r := p.Run("env", "AWS_SHARED_CREDENTIALS_FILE="+other, "sega", "exec", "dev-admin", "--", "/usr/bin/aws", "sts", "get-caller-identity")
	expect(t, r, 0, `"`+aliceARN+`"`, "aws_access_key_id in section [default] of "+other+" comes before what would renew the credentials: they end at ")
	if strings.Contains(r.Out+r.Err, "canary") {
		t.Error("a secret of the other file is shown")
	}
	r = p.Run("env", "AWS_SHARED_CREDENTIALS_FILE="+other, "sega", "exec", "dev-admin", "--env", "--", "true")
	expect(t, r, 0)
	if strings.Contains(r.Err, "default") {
		t.Errorf("with variables it says %q", r.Err)
	}

	marker := filepath.Join(t.TempDir(), "ran")
	expect(t, p.Sega("exec", "dev-admin", "--need", "13h", "--", "touch", marker), 4, "your login ends at ", "13h are needed", "run: sega login")
	expect(t, p.Sega("exec", "dev-admin", "--env", "--need", "2h", "--", "touch", marker), 3, "the credentials of dev-admin end at ", "without --env")
	expect(t, p.Sega("exec", "dev-admin", "--no-agent", "--need", "2h", "--", "touch", marker), 3, "the credentials of dev-admin end at ")
	expect(t, p.Run("test", "-e", marker), 1)
	expect(t, p.Sega("exec", "dev-admin", "--need", "2h", "--", "touch", marker), 0)
	expect(t, p.Sega("exec", "dev-long", "--env", "--need", "2h", "--", "touch", marker), 0) // asks for as long
	expect(t, p.Run("test", "-e", marker), 0)
	expect(t, p.Sega("exec", "dev-admin", "--", "no-such-command"), 127, "sega: no-such-command: ")
	expect(t, p.Sega("exec", "dev-admin", "--", "/etc/passwd"), 126, "sega: /etc/passwd: ")
}

// testServe: all roles on one port, each for whom policy lets.
func testServe(t *testing.T, e *devtest.Env) {
	for _, flag := range []string{"--no-agent", "--no-agent=false"} {
		p := e.LoggedIn(alice)
		env, _ := serving(t, p, flag)
		for role, want := range map[string]string{"dev-admin": aliceARN, "prod-readonly": "no policy permits assume", "no-such-role": "no role"} {
			r := p.Run("env", "AWS_CONTAINER_AUTHORIZATION_TOKEN="+env["AWS_CONTAINER_AUTHORIZATION_TOKEN"], "AWS_CONTAINER_CREDENTIALS_FULL_URI="+env["SEGA_ENDPOINT"]+role,
				"AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_CONFIG_FILE=/dev/null", "/usr/bin/aws", "sts", "get-caller-identity")
			if !strings.Contains(r.Out+r.Err, want) {
				t.Errorf("%s, %s: exit %d\n%s%s", flag, role, r.Code, r.Out, r.Err)
			}
		}
	}
	expect(t, e.LoggedIn(alice).Sega("serve", "prod-readonly"), 3, `group "oncall"`)
}
