//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// anyShell runs a program as another terminal of the person would: without the variables that name
// sega's folder and its broker.
func anyShell(p *devtest.Person, dir string, argv ...string) devtest.Result {
	p.T.Helper()
	return p.Run("env", append(append([]string{"-u", "SEGA_HOME", "-u", "SEGA_BROKER", "-u", "SEGA_CA_FILE"}, awsFiles(dir)...), argv...)...)
}

func awsFiles(dir string) []string {
	return []string{"AWS_CONFIG_FILE=" + filepath.Join(dir, "config"), "AWS_SHARED_CREDENTIALS_FILE=" + filepath.Join(dir, "credentials")}
}

// testConfigure has the AWS CLI and boto3 use the profiles that `sega configure` writes, from any shell.
func testConfigure(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	dir := filepath.Join(t.TempDir(), "a folder", ".aws")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const mine = "# mine\r\n[profile mine]\r\nregion = eu-north-1\r\n"
	config := write(t, filepath.Join(dir, "config"), mine)
	write(t, filepath.Join(dir, "credentials"), "[other]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = x\n")
	configure := func(args ...string) devtest.Result {
		return p.Run("env", slices.Concat(awsFiles(dir), []string{"sega", "configure"}, args)...)
	}
	expect(t, configure("--region", "eu-central-1", "--print"), 0, "+[profile dev-admin]", "added  dev-admin")
	expect(t, configure("--region", "eu-central-1"), 0, "added  dev-admin")
	expect(t, configure("--region", "eu-central-1", "--prune"), 0, "kept  dev-admin")
	data, err := os.ReadFile(config)
	if err != nil || !strings.HasPrefix(string(data), mine) {
		t.Errorf("what stood there became (%v)\n%s", err, data)
	}
	expect(t, anyShell(p, dir, "/usr/bin/aws", "configure", "list-profiles"), 0, "mine\n", "dev-admin\n", "other\n")
	expect(t, anyShell(p, dir, "/usr/bin/aws", "configure", "get", "region", "--profile", "dev-admin"), 0, "eu-central-1")
	for name, argv := range map[string][]string{
		"aws":   {"/usr/bin/aws", "sts", "get-caller-identity", "--profile", "dev-admin", "--query", "Arn", "--output", "text"},
		"boto3": {"/usr/bin/python3", "-c", `import boto3; print(boto3.Session(profile_name="dev-admin").client("sts").get_caller_identity()["Arn"])`},
	} {
		if r := anyShell(p, dir, argv...); r.Code != 0 || strings.TrimSpace(r.Out) != aliceARN {
			t.Errorf("%s: exit %d\n%s%s", name, r.Code, r.Out, r.Err)
		}
	}
	// Nothing but configure has to do with the file: one that cannot be read to its end holds nobody up.
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"credential-process", "dev-admin"}, {"env", "dev-admin"}, {"roles"}, {"status"}} {
		expect(t, p.Run("env", slices.Concat([]string{"AWS_CONFIG_FILE=" + fifo, "AWS_SHARED_CREDENTIALS_FILE=" + fifo, "sega"}, command)...), 0)
	}
	expect(t, p.Run("env", "AWS_CONFIG_FILE="+fifo, "sega", "configure"), 1, "not a regular file")
	// The AWS CLI's own editor of the file leaves it one that sega knows (and ends every line alike).
	expect(t, anyShell(p, dir, "/usr/bin/aws", "configure", "set", "output", "text", "--profile", "dev-admin"), 0)
	expect(t, configure("--prune"), 0, "kept  dev-admin")
	// Another shell's command without a login says what to do, through the AWS CLI as well.
	expect(t, p.Sega("logout"), 0)
	expect(t, anyShell(p, dir, "/usr/bin/aws", "sts", "get-caller-identity", "--profile", "dev-admin"), 255, "sega login")
	// Somebody else's profile is not overwritten.
	b := e.LoggedIn(bob)
	expect(t, b.Run("env", "AWS_CONFIG_FILE="+write(t, filepath.Join(dir, "bob"), "[profile prod-readonly]\nregion = x\n"), "sega", "configure"), 1, "refused  prod-readonly", "added    dev-admin", "--prefix")
}

// testConfigureAtOnce: of many processes that write the file at once none undoes another's work.
func testConfigureAtOnce(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	config := write(t, filepath.Join(t.TempDir(), "config"), "[default]\nregion = x\n")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			expect(t, p.Run("env", "AWS_CONFIG_FILE="+config, "sega", "configure", "--prefix", fmt.Sprintf("p%d-", i)), 0, "added")
		})
	}
	wg.Wait()
	data, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if want := fmt.Sprintf("[profile p%d-dev-admin]\n", i); strings.Count(string(data), want) != 1 {
			t.Errorf("%s stands there %d times", want, strings.Count(string(data), want))
		}
	}
}

// testImport takes over an aws-okta profile, which then works under its own name.
func testImport(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	dir := t.TempDir()
	const okta = "[okta]\naws_saml_url = home/amazon_aws/1\n\n[profile work]\nsource_profile = okta\nrole_arn = arn:aws:iam::111111111111:role/dev-admin\nassume_role_ttl = 30m\nregion = us-east-1\n"
	config := write(t, filepath.Join(dir, "config"), okta)
	run := func(args ...string) devtest.Result {
		return p.Run("env", slices.Concat(awsFiles(dir), []string{"sega", "configure"}, args)...)
	}
	expect(t, run("--import"), 0, "imported  work")
	r := anyShell(p, dir, "/usr/bin/aws", "sts", "get-caller-identity", "--profile", "work", "--query", "Arn", "--output", "text")
	if r.Code != 0 || strings.TrimSpace(r.Out) != aliceARN {
		t.Errorf("exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
	expect(t, run("--undo-import"), 0, "restored  work")
	if data, err := os.ReadFile(config); err != nil || string(data) != okta {
		t.Errorf("%v\n%s", err, data)
	}
}
