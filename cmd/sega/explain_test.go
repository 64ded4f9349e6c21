package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/client"
	"sega/idp"
	"sega/keychain"
	"sega/keychain/secret"
)

// TestKindsAreDocumented: docs/errors.md lists exactly the kinds that sega tells, with their exit codes.
func TestKindsAreDocumented(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[api.Kind]int{}
	wire, local, found := strings.Cut(string(data), "\n## On this machine\n")
	if !found {
		t.Fatal("docs/errors.md has no section about this machine")
	}
	local, _, _ = strings.Cut(local, "\n## ")
	for section, row := range map[string]*regexp.Regexp{
		wire:  regexp.MustCompile("(?m)^\\| `(\\w+)` \\| \\d+ \\| (\\d) \\|"),
		local: regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\d) \\|"),
	} {
		for _, m := range row.FindAllStringSubmatch(section, -1) {
			kind := api.Kind(m[1])
			if _, twice := documented[kind]; twice {
				t.Errorf("%s is listed twice", kind)
			}
			if documented[kind], err = strconv.Atoi(m[2]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff(exits, documented); diff != "" {
		t.Errorf("-code +docs/errors.md\n%s", diff)
	}
}

// TestExplanations: what is told of an error, whole.
func TestExplanations(t *testing.T) {
	problem := api.Errorf(api.KindRateLimited, "too many requests").WithHint("wait")
	problem.RequestID, problem.RetrySecs, problem.PolicyIDs = "req_1", 7, []string{"p1"}
	full := &fs.PathError{Op: "write", Path: "/home/a/x", Err: syscall.ENOSPC}
	lost := &url.Error{Op: "Get", URL: "https://idp.example/authorize?state=canary", Err: &net.DNSError{IsNotFound: true, Name: "idp.example"}}
	for name, c := range map[string]struct {
		err  error
		want explanation
	}{
		"a problem":                    {fmt.Errorf("op: %w", problem), explanation{Kind: api.KindRateLimited, Detail: "op: too many requests", Hint: "wait", Exit: 1, PolicyIDs: []string{"p1"}, RequestID: "req_1", RetrySecs: 7}},
		"a problem of a later version": {api.Errorf("later", "x"), explanation{Kind: api.KindInternal, Detail: "x", Exit: 1}},
		"usage":                        {usagef("ROLE is missing"), explanation{Kind: kindUsage, Detail: "ROLE is missing", Hint: "run: sega x --help", Exit: 2}},
		"usage with a hint":            {withHint(usagef("bad"), "a\nb"), explanation{Kind: kindUsage, Detail: "bad", Hint: "a\nb\nrun: sega x --help", Exit: 2}},
		"a hint in the text":           {fmt.Errorf("one: %w\n  two\nthree", errPlain), explanation{Kind: api.KindInternal, Detail: "one: plain", Hint: "two\nthree", Exit: 1}},
		"two errors":                   {errors.Join(problem, errPlain), explanation{Kind: api.KindRateLimited, Detail: "too many requests", Hint: "plain\nwait", Exit: 1, PolicyIDs: []string{"p1"}, RequestID: "req_1", RetrySecs: 7}},
		"not logged in":                {errNotLoggedIn, explanation{Kind: kindLogin, Detail: "you are not logged in", Hint: "run: sega login", Exit: 4}},
		"a full disk":                  {fmt.Errorf("keychain: %w", full), explanation{Kind: kindDisk, Detail: "keychain: write /home/a/x: no space left on device", Hint: "free the disk of /home/a/x and try again; what was there before is as it was", Exit: 1}},
		"a full disk below the keychain": {fmt.Errorf("%w: file: %w", keychain.ErrUnavailable, full), explanation{Kind: kindDisk, Detail: "keychain: the place of the key cannot be used now: file: write /home/a/x: no space left on device",
			Hint: "free the disk of /home/a/x and try again; what was there before is as it was", Exit: 1}},
		"a full disk below the witness": {api.Errorf(api.KindInternal, "no place for it").WithHint("free it").WithCause(full), explanation{Kind: kindDisk, Detail: "no place for it", Hint: "free it", Exit: 1}},
		"a disk to be read only": {&os.LinkError{Op: "rename", Old: "/a/1", New: "/a/2", Err: syscall.EROFS}, explanation{Kind: kindDisk, Detail: "rename /a/1 /a/2: read-only file system",
			Hint: "make the disk of /a/2 writable, or set SEGA_HOME to a folder that is", Exit: 1}},
		"a file that is not ours": {&fs.PathError{Op: "open", Path: "/a/x", Err: syscall.EACCES}, explanation{Kind: kindFile, Detail: "open /a/x: permission denied", Hint: "look at owner and mode: ls -ld /a /a/x", Exit: 1}},
		"a socket":                {&net.OpError{Op: "listen", Net: "unix", Err: os.NewSyscallError("bind", syscall.EINVAL)}, explanation{Kind: kindFile, Detail: "listen unix: bind: invalid argument", Hint: "set TMPDIR and SEGA_HOME to folders with shorter names", Exit: 1}},
		"a program":               {fmt.Errorf("x: %w", &exec.Error{Name: "ssh", Err: exec.ErrNotFound}), explanation{Kind: kindProgram, Detail: `x: exec: "ssh": executable file not found in $PATH`, Exit: 1}},
		"the identity provider":   {fmt.Errorf("%w: discovery: %w", idp.ErrUnreachable, lost), explanation{Kind: kindIDPUnreachable, Detail: "the identity provider at idp.example cannot be reached: its name is not known", Hint: remedies[kindIDPUnreachable], Exit: 7}},
		"a stranger":              {api.Errorf(api.KindInternal, "x").WithHint("y").WithCause(client.ErrForeign), explanation{Kind: kindForeign, Detail: "x", Hint: "y", Exit: 7}},
		"a forked log":            {api.Errorf(api.KindInternal, "x").WithHint("y").WithCause(fmt.Errorf("z: %w", audit.ErrFork)), explanation{Kind: kindUnverified, Detail: "x", Hint: "y", Exit: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Command = "sega x"
			if diff := cmp.Diff(c.want, explanationOf(c.err, "sega x")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestJSONErrors: with --json or SEGA_ERRORS=json an error is one object on one line of stderr.
func TestJSONErrors(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		env  string
		want explanation
	}{
		"a command of data":         {args: "roles --json", want: explanation{Kind: kindLogin, Detail: "you are not logged in", Hint: "run: sega login", Exit: 4, Command: "sega roles"}},
		"a command without":         {args: "logout extra --json", want: explanation{Kind: kindUsage, Detail: `unexpected argument "extra"`, Hint: "run: sega logout --help", Exit: 2, Command: "sega logout"}},
		"before the command":        {args: "--json exec dev -- true", want: explanation{Kind: kindLogin, Detail: "you are not logged in", Hint: "run: sega login", Exit: 4, Command: "sega exec"}},
		"behind the mistake":        {args: "roles --nope --json", want: explanation{Kind: kindUsage, Detail: "unknown flag: --nope", Hint: "run: sega roles --help", Exit: 2, Command: "sega roles"}},
		"the environment":           {args: "credential-process dev", env: "SEGA_ERRORS=json", want: explanation{Kind: kindLogin, Detail: "you are not logged in", Hint: "run: sega login", Exit: 4, Command: "sega credential-process"}},
		"no such command":           {args: "frobnicate --json", want: explanation{Kind: kindUsage, Detail: `there is no command "frobnicate"`, Hint: "run: sega --help", Exit: 2, Command: "sega"}},
		"a configuration of ours":   {args: "login sega.test --json", env: "SEGA_CA_FILE=/none", want: explanation{Kind: kindConfig, Detail: "SEGA_CA_FILE: open /none: no such file or directory", Hint: "name a PEM file of the CA that has issued the broker's certificate, or unset it", Exit: 1, Command: "sega login"}},
		"no broker is known":        {args: "login --json", want: explanation{Kind: kindConfig, Detail: "no broker is known yet", Hint: "run: sega login sega.YOUR-COMPANY.example", Exit: 1, Command: "sega login"}},
		"an unknown keyring":        {args: "status --json", env: "SEGA_KEYRING_BACKEND=none", want: explanation{Kind: kindConfig, Exit: 1, Command: "sega status"}},
		"a program that is missing": {args: "exec dev --json -- /does/not/exist", want: explanation{Kind: kindProgram, Detail: "/does/not/exist: no such file or directory", Exit: 127, Command: "sega exec"}},
	} {
		t.Run(name, func(t *testing.T) {
			a, out, talk := testApp(t, c.env)
			code := run(t.Context(), strings.Fields(c.args), a)
			got := oneObject(t, talk.String())
			if c.want.Detail == "" {
				c.want.Detail, c.want.Hint = got.Detail, got.Hint
			}
			if diff := cmp.Diff(c.want, got); diff != "" || code != c.want.Exit || out.Len() > 0 {
				t.Errorf("exit %d, stdout %q, -want +got\n%s", code, out, diff)
			}
		})
	}
	a, _, talk := testApp(t)
	if run(t.Context(), []string{"exec", "a", "b", "--", "--json"}, a) != exitUsage || !strings.HasPrefix(talk.String(), "sega: ") {
		t.Errorf("what a child is given is no flag of ours: %s", talk)
	}
}

// oneObject reads what stderr holds: one line, one object.
func oneObject(t *testing.T, text string) (e explanation) {
	t.Helper()
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		t.Fatalf("not one line: %q", text)
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil || d.More() {
		t.Fatalf("%v: %s", err, text)
	}
	if e.Detail == "" || strings.Contains(e.Detail, "\n") {
		t.Errorf("the detail is not one line: %q", e.Detail)
	}
	return e
}

// TestEveryCommandTakesJSON: none has a flag of its own by that name.
func TestEveryCommandTakesJSON(t *testing.T) {
	a, _, _ := testApp(t)
	root := newRoot(a)
	flag := root.PersistentFlags().Lookup("json")
	walk(root, func(c *cobra.Command) {
		if c.Flag("json") != flag {
			t.Errorf("%s has another --json", c.CommandPath())
		}
	})
}

// TestErrorsHoldNoSecret: what is secret in what failed shows in neither form.
func TestErrorsHoldNoSecret(t *testing.T) {
	const canary = "canary-5e1f"
	s := secret.FromString(canary)
	quoted := &url.Error{Op: "Post", URL: "https://idp.example/token?code=" + canary, Err: errors.New("x " + "y")}
	for name, err := range map[string]error{
		"a secret in the text":     fmt.Errorf("%v %s %q %x %+v", s, s, s, s, s),
		"an address with a query":  fmt.Errorf("%w: %w", idp.ErrUnreachable, quoted),
		"the cause of a problem":   api.Errorf(api.KindInternal, "internal error").WithCause(errors.New(canary)),
		"a usage with a secret":    usagef("%v", s),
		"a session that is broken": damagedSession(canary),
	} {
		var text, asJSON strings.Builder
		explain(&text, err, "sega")
		explainJSON(&asJSON, err, "sega")
		for form, got := range map[string]string{"text": text.String(), "JSON": asJSON.String()} {
			if strings.Contains(got, canary) || got == "" {
				t.Errorf("%s, as %s: %s", name, form, got)
			}
		}
	}
}

func damagedSession(canary string) error {
	_, err := unseal(secret.FromString(`{"token":"` + canary))
	return err
}
