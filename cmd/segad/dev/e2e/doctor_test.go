//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/cmd/segad/dev/devtest"
)

// patient is somebody at whose machine things are broken, one at a time.
type patient struct {
	*devtest.Person
	t    *testing.T
	home string // HOME
}

// finding is a line of `sega doctor --json`.
type finding struct{ Check, State, Text, Mend string }

// doctor runs `sega doctor --json` with more variables.
func (p patient) doctor(env ...string) (found []finding, code int) {
	p.t.Helper()
	r := p.Run("env", append(append([]string{"HOME=" + p.home}, env...), "sega", "doctor", "--json")...)
	d := json.NewDecoder(strings.NewReader(r.Out))
	for d.More() {
		var f finding
		if err := d.Decode(&f); err != nil {
			p.t.Fatalf("%v in\n%s%s", err, r.Out, r.Err)
		}
		found = append(found, f)
	}
	if (r.Code != 0) != strings.Contains(r.Err, `"kind":"unsound"`) {
		p.t.Errorf("exit %d, and stderr says %s", r.Code, r.Err)
	}
	return found, r.Code
}

// failed asks for a failure of a check that names what is wrong and what mends it.
func (p patient) failed(what, check, text, mend string, env ...string) {
	p.t.Helper()
	found, code := p.doctor(env...)
	for _, f := range found {
		if f.Check == check && f.State == "fail" && strings.Contains(f.Text, text) && strings.Contains(f.Mend, mend) {
			if code != 1 {
				p.t.Errorf("%s: exit %d", what, code)
			}
			return
		}
	}
	p.t.Errorf("%s: no failure of %s with %q and %q, exit %d:\n%+v", what, check, text, mend, code, found)
}

// contents are names, sizes, modes and times of everything in a folder.
func contents(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && d.Type()&fs.ModeSocket == 0 && filepath.Base(path) != "log" { // the agent is free to write
			all = append(all, fmt.Sprint(path, info.Size(), info.Mode(), info.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// testDoctor: on a machine where all works nothing fails and nothing is changed; what is broken is
// named with what mends it.
func testDoctor(t *testing.T, e *devtest.Env) {
	p := patient{e.LoggedIn(alice), t, t.TempDir()}
	before := contents(t, p.Home)
	found, code := p.doctor()
	for _, f := range found {
		if f.State != "ok" {
			t.Errorf("%+v", f)
		}
	}
	if code != 0 || len(found) < 20 {
		t.Errorf("exit %d, %d findings", code, len(found))
	}
	if diff := cmp.Diff(before, contents(t, p.Home)); diff != "" {
		t.Errorf("looking changed the folder:\n%s", diff)
	}
	text := p.Run("env", "HOME="+p.home, "sega", "doctor")
	expect(t, text, 0, "ok    broker ", "ok    login            alice@example.com, with MFA, until ", "ok    roles            you may use ", "TLS 1.3")
	testDoctorBroken(t, e, p)
}

func testDoctorBroken(t *testing.T, e *devtest.Env, p patient) {
	p.failed("a CA of nobody's", "broker", "is not trusted: nobody who is trusted here has issued it (issuer: CN=sega dev CA", "SEGA_CA_FILE", "SEGA_CA_FILE=")
	p.failed("a profile that is not there", "aws-environment", `"ghost"`, "unset AWS_PROFILE", "AWS_PROFILE=ghost")
	p.failed("keys that have expired", "aws-environment", "expired on", "unset AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID=ASIA", "AWS_CREDENTIAL_EXPIRATION=2020-01-01T00:00:00Z")

	secrets := filepath.Join(p.Home, "secrets")
	must(t, os.Chmod(secrets, 0o755))
	p.failed("secrets that others see", "home", "is open to others (mode 0755)", "chmod 700 "+secrets)
	must(t, os.Chmod(secrets, 0o700))

	keys, err := filepath.Glob(filepath.Join(secrets, "key*"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("%q, %v", keys, err)
	}
	must(t, os.Rename(keys[0], keys[0]+".away"))
	p.failed("a key that is gone", "keychain", "is missing", "sega login")
	must(t, os.Rename(keys[0]+".away", keys[0]))

	expect(t, p.Run("env", "HOME="+p.home, "sega", "configure"), 0, "dev-admin")
	must(t, os.WriteFile(filepath.Join(p.home, ".aws", "credentials"), []byte("[dev-admin]\naws_access_key_id = AKIA\n"), 0o600))
	p.failed("a profile that is hidden", "aws-files", "dev-admin does not ask sega: aws_access_key_id in line 2 of", "delete that line")
	must(t, os.Remove(filepath.Join(p.home, ".aws", "credentials")))

	marks, err := filepath.Glob(filepath.Join(p.Home, "checkpoint-*"))
	if err != nil || len(marks) != 1 {
		t.Fatalf("%q, %v", marks, err)
	}
	good, err := os.ReadFile(marks[0])
	must(t, err)
	must(t, os.WriteFile(marks[0], []byte(strings.Replace(string(good), "\n", "x\n", 1)), 0o600))
	p.failed("a checkpoint that was changed", "log", "does not continue what this machine has seen", "security staff")
	must(t, os.WriteFile(marks[0], good, 0o600))

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	begun := time.Now()
	p.failed("a broker that says nothing", "broker", "no answer in time", "HTTPS_PROXY", "SEGA_BROKER="+silent.Addr().String())
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	must(t, silent.Close())

	id := field(p.object("status", "--json"), "login_id")
	expect(t, e.LoggedIn(sam).Sega("revoke", "session", id, "--reason", "a test", "--yes"), 0)
	p.failed("a session that was revoked", "login", "the broker does not take the session", "sega login")

	if found, code := p.doctor("SEGA_HOME="+filepath.Join(p.home, "none"), "SEGA_BROKER="); code != 0 {
		t.Errorf("before the first login: exit %d: %+v", code, found)
	}
	if _, err := os.Stat(filepath.Join(p.home, "none")); err == nil {
		t.Error("looking has made sega's folder")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// object runs sega and reads the one object that it prints.
func (p patient) object(args ...string) (v map[string]any) {
	p.t.Helper()
	r := p.Sega(args...)
	if err := json.Unmarshal([]byte(r.Out), &v); err != nil || r.Code != 0 {
		p.t.Fatalf("exit %d, %v: %s%s", r.Code, err, r.Out, r.Err)
	}
	return v
}

// testErrors: an error of the real broker is one object with --json, and with SEGA_ERRORS=json.
func testErrors(t *testing.T, e *devtest.Env) {
	p := patient{e.LoggedIn(alice), t, t.TempDir()}
	for _, argv := range [][]string{
		{"sega", "exec", "prod-readonly", "--json", "--", "true"}, {"env", "SEGA_ERRORS=json", "sega", "credential-process", "prod-readonly"},
		{"env", "SEGA_ERRORS=json", "sega", "--no-agent", "credential-process", "prod-readonly"},
	} {
		r := p.Run(argv[0], argv[1:]...)
		var v map[string]any
		if err := json.Unmarshal([]byte(r.Err), &v); err != nil || r.Code != 3 || r.Out != "" {
			t.Errorf("%q: exit %d, %v: %s%s", argv, r.Code, err, r.Out, r.Err)
		}
		if field(v, "kind") != "denied" || !strings.Contains(field(v, "detail"), `needs group "oncall"`) || v["exit"] != 3.0 || !strings.HasPrefix(field(v, "command"), "sega ") || field(v, "request_id") == "" {
			t.Errorf("%q: %s", argv, r.Err)
		}
	}
	status := p.object("status", "--json")
	if s, ok := status["seconds_left"].(float64); !ok || s < 11*3600 || s > 12*3600 || status["role"] != "" {
		t.Errorf("status: %v", status)
	}
	r := p.Sega("exec", "dev-admin", "--", "sega", "status", "--json")
	expect(t, r, 0, `"role":"dev-admin"`)
}
