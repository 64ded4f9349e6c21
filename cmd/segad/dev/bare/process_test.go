//go:build linux

package bare

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/cmd/segad/dev/devtest"
)

// testOutside sends signals to the process that was started: the command is it.
func testOutside(t *testing.T, w *world) {
	for name, c := range map[string]struct {
		signal syscall.Signal
		script string
		want   string
	}{
		"TERM":         {syscall.SIGTERM, "echo ready; exec sleep 1000", "signal 15, core false"},
		"TERM, caught": {syscall.SIGTERM, "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.01; done", "exit 9"},
		"INT":          {syscall.SIGINT, "echo ready; exec sleep 1000", "signal 2, core false"},
		"HUP":          {syscall.SIGHUP, "echo ready; exec sleep 1000", "signal 1, core false"},
		"USR1, caught": {syscall.SIGUSR1, "trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.01; done", "exit 9"},
		"KILL":         {syscall.SIGKILL, "echo ready; exec sleep 1000", "signal 9, core false"},
		"STOP, CONT":   {syscall.SIGSTOP, "echo ready; until [ -e go ]; do sleep 0.01; done; exit 4", "exit 4"},
	} {
		t.Run(name, func(t *testing.T) {
			x := trial{during: func(child *exec.Cmd, out io.Reader) {
				r := bufio.NewReader(out)
				if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
					t.Errorf("%q, %v", line, err)
				}
				if err := child.Process.Signal(c.signal); err != nil {
					t.Error(err)
				}
				if c.signal == syscall.SIGSTOP {
					devtest.Eventually(t, patience, "it does not stop", func() error { return inState(child.Process.Pid, "T") })
					err := errors.Join(os.WriteFile(filepath.Join(child.Dir, "go"), nil, 0o600), child.Process.Signal(syscall.SIGCONT))
					if err != nil {
						t.Error(err)
					}
				}
				_, _ = io.Copy(io.Discard, r)
			}}
			compare(t, w, x, c.want, "sh", "-c", c.script)
		})
	}
}

// inState looks whether a process is in a state of proc(5).
func inState(pid int, want string) error {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	if _, after, _ := strings.Cut(string(raw), ") "); !strings.HasPrefix(after, want) {
		return errors.New(after)
	}
	return nil
}

// environment reads what the probe prints of its own.
func environment(t *testing.T, got ended) (all []string) {
	t.Helper()
	for line := range strings.Lines(got.Out) {
		raw, err := hex.DecodeString(strings.TrimSuffix(line, "\n"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(raw))
	}
	return all
}

// Variables that never reach a child (README, "Environment").
var stale = regexp.MustCompile(`^(AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN|CREDENTIAL_EXPIRATION|PROFILE|DEFAULT_PROFILE|ROLE_ARN|WEB_IDENTITY_TOKEN_FILE|CONTAINER_[A-Z_]*)|SEGA_ROLE|SEGA_SESSION)(=|$)`)

// ours are what a child gets: keys, or an endpoint.
var ours = map[string]bool{
	"AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_CREDENTIAL_EXPIRATION SEGA_ROLE SEGA_SESSION": true,
	"AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_CONTAINER_AUTHORIZATION_TOKEN SEGA_ROLE SEGA_SESSION":                true,
}

// testEnvironment: the child's environment is ours in its order, with everything odd in it, without
// stale credentials, and at its end the new ones, once.
func testEnvironment(t *testing.T, w *world) {
	odd := []string{"put=TWICE=1", "put=TWICE=2", "put=NOVALUE", "put==empty name", "put=", "put=EMPTY=", "put=BYTES=\xff\xfe\x01", "put=LINES=a\nb", "put=LONG=" + strings.Repeat("x", 50_000),
		"put=AWS_REGION=eu-west-1", "put=AWS_ENDPOINT_URL_STS=http://127.0.0.1:1", "put=aws_profile=lower", "put=AWS_PROFILES=x", "put=PATH=/second"}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "SEGA_ROLE", "SEGA_SESSION"} {
		odd = append(odd, "put="+name+"=stale", "put="+name, "put="+name+"=stale again")
	}
	var want []string
	for _, m := range modes {
		got := trial{w: w.on(t), prefix: m.prefix, setup: odd}.run(t, w.probe, "env")
		env := environment(t, got)
		if m.prefix == nil {
			for _, kv := range env {
				if !stale.MatchString(kv) {
					want = append(want, kv)
				}
			}
			if len(env)-len(want) != 45 {
				t.Fatalf("%d variables are stale", len(env)-len(want))
			}
			continue
		}
		var names []string
		for _, kv := range env[min(len(want), len(env)):] {
			name, value, _ := strings.Cut(kv, "=")
			if names = append(names, name); strings.Contains(value, "stale") || value == "" {
				t.Errorf("%s: %s", m.name, name)
			}
		}
		if diff := cmp.Diff(want, env[:min(len(want), len(env))]); diff != "" || !ours[strings.Join(names, " ")] {
			t.Errorf("%s: then %q\n-want +got\n%s", m.name, names, diff)
		}
	}
}

// testNested: sega inside of sega gives what it gives alone.
func testNested(t *testing.T, w *world) {
	nested := &world{Person: w.LoggedIn("bob@example.com"), probe: w.probe}
	for _, role := range []string{"dev-admin", "prod-readonly"} {
		if r := nested.Sega("exec", role, "--", "true"); r.Code != 0 {
			t.Fatalf("exit %d\n%s", r.Code, r.Err)
		}
	}
	for _, m := range modes[1:] {
		alone := trial{w: nested.on(t), prefix: m.prefix}.run(t, w.probe, "env")
		outer := append([]string{"sega", "exec", "prod-readonly", "--"}, m.prefix...)
		inside := trial{w: nested.on(t), prefix: outer}.run(t, w.probe, "env")
		if alone.How != "exit 0" || inside.How != "exit 0" {
			t.Fatalf("%+v\n%+v", alone, inside)
		}
		if diff := cmp.Diff(environment(t, alone), environment(t, inside)); diff != "" && m.name == "exec --env" {
			t.Errorf("%s: -alone +inside\n%s", m.name, diff)
		}
		compareState := trial{w: nested.on(t), prefix: outer, setup: []string{"ignore=13", "close=0", "block=17"}}.run(t, w.probe, "state")
		bare := trial{w: nested.on(t), setup: []string{"ignore=13", "close=0", "block=17"}}.run(t, w.probe, "state")
		cwd := regexp.MustCompile(`(?m)^cwd .*$`)
		if diff := cmp.Diff(cwd.ReplaceAllString(bare.Out, ""), cwd.ReplaceAllString(compareState.Out, "")); diff != "" {
			t.Errorf("%s: -bare +nested\n%s", m.name, diff)
		}
	}
}

// testShell: without a command it is the person's shell.
func testShell(t *testing.T, w *world) {
	for name, c := range map[string]struct {
		env, script, how, out string
	}{
		"sh":            {"SHELL=/bin/sh", "echo I am $SEGA_ROLE as $0; exit 9\n", "exit 9", "I am dev-admin as /bin/sh\n"},
		"bash":          {"SHELL=/bin/bash", "shopt -q login_shell && echo login; echo $SEGA_ROLE; kill -TERM $$\n", "signal 15, core false", "dev-admin\n"},
		"none is named": {"SHELL=", "echo $SEGA_ROLE as $0\n", "exit 0", "dev-admin as /bin/sh\n"},
		"none is there": {"SHELL=/no/such/shell", "", "exit 127", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := trial{w: w.on(t), prefix: []string{"sega", "exec", "dev-admin"}, env: []string{c.env}, stdin: strings.NewReader(c.script)}.run(t)
			if got.How != c.how || got.Out != c.out {
				t.Errorf("%+v", got)
			}
		})
	}
}
