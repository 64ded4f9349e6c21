//go:build linux

package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// commandLine is a command in a list of cobra's help.
var commandLine = regexp.MustCompile(`^  (\S+) +\S`)

// subcommands are the commands that a help lists, in its order, and the titles of their groups.
func subcommands(help string) (names, titles []string) {
	inList := false
	for line := range strings.Lines(help) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasSuffix(line, ":") && !strings.HasPrefix(line, " "):
			inList = line != "Usage:" && line != "Examples:" && line != "Flags:" && line != "Global Flags:" && line != "Aliases:"
			if inList {
				titles = append(titles, line)
			}
		case line == "":
			inList = false
		case inList:
			if m := commandLine.FindStringSubmatch(line); m != nil {
				names = append(names, m[1])
			}
		}
	}
	return names, titles
}

// walk runs `--help` of a command and of all below it, and calls visit with each.
func walk(t *testing.T, p *devtest.Person, argv []string, visit func(argv []string, help string, leaf bool)) {
	t.Helper()
	r := p.Run(argv[0], append(argv[1:len(argv):len(argv)], "--help")...)
	if r.Code != 0 || r.Err != "" {
		t.Errorf("%q --help: exit %d\n%s", argv, r.Code, r.Err)
	}
	names, _ := subcommands(r.Out)
	visit(argv, r.Out, len(names) == 0)
	for _, name := range names {
		if name != "help" {
			walk(t, p, append(argv[:len(argv):len(argv)], name), visit)
		}
	}
}

// somebody is a person of no environment.
func somebody(t *testing.T) *devtest.Person {
	t.Helper()
	e := &devtest.Env{T: t, Data: t.TempDir(), Bin: devtest.Bin(t)}
	return &devtest.Person{Env: e, Home: t.TempDir()}
}

// TestHelp walks both trees of commands.
func TestHelp(t *testing.T) {
	t.Parallel()
	p := somebody(t)
	seen := map[string]bool{}
	for _, program := range []string{"sega", "segad"} {
		walk(t, p, []string{program}, func(argv []string, help string, leaf bool) {
			name := strings.Join(argv, " ")
			seen[name] = true
			if !strings.Contains(help, "Usage:\n") || !strings.Contains(help, "Examples:\n") {
				t.Errorf("%s: no usage or no example\n%s", name, help)
			}
			_, example, _ := strings.Cut(help, "Examples:\n")
			if !strings.Contains(example, program) {
				t.Errorf("%s: the example does not name the program\n%s", name, help)
			}
			if !strings.HasSuffix(help, "\n") || strings.HasPrefix(help, "\n") {
				t.Errorf("%s: the help has no clean ends", name)
			}
			for _, wrong := range [][]string{{"--no-such-flag"}, {"-Z"}} {
				if r := p.Run(argv[0], append(argv[1:len(argv):len(argv)], wrong...)...); r.Code != 2 || r.Out != "" || !strings.Contains(r.Err, program+": ") {
					t.Errorf("%s %q: exit %d, want 2\n%s%s", name, wrong, r.Code, r.Out, r.Err)
				}
			}
			if !leaf {
				if r := p.Run(argv[0], append(argv[1:len(argv):len(argv)], "no-such-command")...); r.Code != 2 || r.Out != "" {
					t.Errorf("%s no-such-command: exit %d, want 2\n%s%s", name, r.Code, r.Out, r.Err)
				}
			}
		})
	}
	for _, want := range []string{"sega login", "sega logout", "sega status", "sega roles", "sega exec", "sega env", "sega credential-process", "sega console", "sega hosts", "sega ssh", "sega configure",
		"sega sessions", "sega sessions kill", "sega revoke user", "sega revoke session", "sega unblock user", "sega audit query", "sega audit tail", "sega audit show", "sega audit play", "sega audit export", "sega audit verify",
		"segad broker", "segad bastion", "segad ca init", "segad policy check", "segad dev up", "segad dev login"} {
		if !seen[want] {
			t.Errorf("no help lists %s", want)
		}
	}
	_, titles := subcommands(p.Sega("--help").Out)
	if got := strings.Join(titles, " "); !strings.HasPrefix(got, "Access: Security: Review:") {
		t.Errorf("the groups of the help are %s", got)
	}
}

// TestUsage holds exit codes of what is wrong with a command line or comes before a login.
func TestUsage(t *testing.T) {
	t.Parallel()
	p := somebody(t)
	for _, argv := range [][]string{
		{"sega", "status", "extra"}, {"sega", "login", "a", "b"}, {"sega", "login", "--paste", "--device", "localhost"}, {"sega", "login", "http://localhost"}, {"sega", "exec"}, {"sega", "exec", "role", "true"},
		{"sega", "exec", "--", "true"}, {"sega", "env"}, {"sega", "credential-process"}, {"sega", "console"}, {"sega", "ssh"}, {"sega", "revoke"}, {"sega", "revoke", "user"},
		{"sega", "revoke", "planet", "x"}, {"sega", "unblock"}, {"sega", "unblock", "user"}, {"sega", "audit"}, {"sega", "audit", "show"}, {"sega", "audit", "frobnicate"}, {"sega", "sessions", "extra"},
		{"segad", "broker"}, {"segad", "bastion"}, {"segad", "ca", "init"}, {"segad", "policy", "check"}, {"segad", "dev", "login"}, {"segad", "dev", "up", "extra"},
	} {
		if r := p.Run(argv[0], argv[1:]...); r.Code != 2 || r.Out != "" || r.Err == "" {
			t.Errorf("%q: exit %d, want 2\n%s%s", argv, r.Code, r.Out, r.Err)
		}
	}
	for _, argv := range [][]string{{"status"}, {"roles"}, {"hosts"}, {"exec", "role", "--", "true"}, {"env", "role"}, {"credential-process", "role"}, {"console", "role"}, {"ssh", "host"}, {"configure", "--ssh"}, {"configure", "--ssh", "--print"},
		{"sessions"}, {"revoke", "user", alice, "--yes", "--reason", "x"}, {"audit", "query"}, {"audit", "tail"}, {"audit", "verify"}} {
		expect(t, p.Sega(argv...), 4, "sega login")
		expect(t, p.Run("env", append([]string{"SEGA_BROKER=https://127.0.0.1:1", "sega"}, argv...)...), 4, "sega login")
	}
	expect(t, p.Sega("logout"), 0)
	expect(t, p.Run("env", "SEGA_BROKER=https://127.0.0.1:1", "sega", "login"), 7)
	expect(t, p.Sega("--version"), 0)
	expect(t, p.Run("segad", "broker", "--config", filepath.Join(t.TempDir(), "missing.yaml")), 1, "missing.yaml")
	expect(t, p.Run("segad", "broker", "--config", write(t, filepath.Join(t.TempDir(), "c.yaml"), "origin: https://x\nlisten: x\nnonsense: 1\n")), 1, "line 3", "nonsense")
}
