package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// walk visits a command and all below it.
func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		walk(sub, visit)
	}
}

// TestCommandTree: every command explains itself, and no flag means two things.
func TestCommandTree(t *testing.T) {
	a, _, _ := testApp(t)
	seen := map[string]bool{}
	walk(newRoot(a), func(c *cobra.Command) {
		path := c.CommandPath()
		if seen[path] {
			t.Errorf("%s is there twice", path)
		}
		seen[path] = true
		if c.Short == "" || c.Example == "" || !strings.Contains(c.Example, strings.Fields(path)[0]+" ") {
			t.Errorf("%s: short %q, example %q", path, c.Short, c.Example)
		}
		if strings.HasSuffix(c.Short, ".") || c.Short != "" && strings.ToUpper(c.Short[:1]) != c.Short[:1] {
			t.Errorf("%s: short text %q", path, c.Short)
		}
		if c.Runnable() && c.Args == nil {
			t.Errorf("%s does not say which arguments it takes", path)
		}
		short := map[string]string{}
		c.InheritedFlags().VisitAll(func(f *pflag.Flag) {
			if c.LocalNonPersistentFlags().Lookup(f.Name) != nil {
				t.Errorf("%s: --%s hides that of a parent", path, f.Name)
			}
		})
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s says nothing", path, f.Name)
			}
			if strings.Contains(f.Usage, "`") { // pflag takes what they quote for the name of the value
				t.Errorf("%s: --%s has backquotes in its text", path, f.Name)
			}
			if f.Shorthand != "" && short[f.Shorthand] != "" {
				t.Errorf("%s: -%s is --%s and --%s", path, f.Shorthand, f.Name, short[f.Shorthand])
			}
			short[f.Shorthand] = f.Name
		})
	})
	for _, want := range []string{"login", "logout", "status", "roles", "exec", "env", "credential-process", "hosts", "ssh", "configure", "doctor", "sessions", "sessions kill",
		"revoke user", "revoke session", "revoke cert", "revoke host", "unblock user", "unblock host", "audit query", "audit show", "audit play", "audit export", "audit verify"} {
		if !seen["sega "+want] {
			t.Errorf("there is no %q", want)
		}
	}
}

// TestGroups: help lists access, security, review and what runs on hosts, in this order, and each command stands in one.
func TestGroups(t *testing.T) {
	a, out, _ := testApp(t)
	root := newRoot(a)
	var groups []string
	for _, g := range root.Groups() {
		groups = append(groups, g.ID)
	}
	if diff := cmp.Diff([]string{"access", "security", "review", "host"}, groups); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, c := range root.Commands() {
		if !root.ContainsGroup(c.GroupID) && c.Name() != "completion" { // cobra's own, listed apart
			t.Errorf("%s is in group %q", c.Name(), c.GroupID)
		}
	}
	if code := run(t.Context(), []string{"--help"}, a); code != 0 {
		t.Fatalf("exit %d", code)
	}
	last := -1
	for _, title := range []string{"Access:", "Security:", "Review:"} {
		at := strings.Index(out.String(), title)
		if at <= last {
			t.Errorf("%s stands at %d, after %d", title, at, last)
		}
		last = at
	}
}

// TestOldNames: what people bring from aws-okta and aws-vault goes on working.
func TestOldNames(t *testing.T) {
	a, _, _ := testApp(t)
	for old, name := range map[string]string{"exec": "exec", "login": "login", "list": "roles", "ls": "roles", "clear": "logout"} {
		if c, _, err := newRoot(a).Find([]string{old}); err != nil || c.Name() != name {
			t.Errorf("%s is %v, %v", old, c.Name(), err)
		}
	}
}

// TestWithoutArguments runs every command with nothing: it says what is missing, or that there is no
// login, and neither panics nor prints data.
func TestWithoutArguments(t *testing.T) {
	a, _, _ := testApp(t)
	var paths [][]string
	walk(newRoot(a), func(c *cobra.Command) {
		if path := strings.Fields(c.CommandPath())[1:]; len(path) < 2 || path[0] != "completion" { // prints a script, and is cobra's own
			paths = append(paths, path)
		}
	})
	for _, path := range paths {
		t.Run(strings.Join(append([]string{"sega"}, path...), " "), func(t *testing.T) {
			a, out, talk := testApp(t)
			code := run(t.Context(), path, a)
			switch {
			case len(path) == 0: // the help
				if code != exitDone || !strings.Contains(out.String(), "Usage:") {
					t.Errorf("exit %d: %s", code, out)
				}
				return
			case path[0] == "doctor":
				if code != exitDone || !strings.Contains(out.String(), "you are not logged in") {
					t.Errorf("exit %d: %s", code, out)
				}
				return
			case path[0] == "logout":
				if code != exitDone || !strings.Contains(talk.String(), "not logged in") {
					t.Errorf("exit %d: %s", code, talk)
				}
			case path[0] == "login":
				if code != exitFailed || !strings.Contains(talk.String(), "no broker is known yet") {
					t.Errorf("exit %d: %s", code, talk)
				}
			case path[0] == "doctor": // looks at what there is
				if code > exitFailed || !strings.Contains(out.String(), "you are not logged in") {
					t.Errorf("exit %d: %s", code, out)
				}
				return
			case path[0] == "host" && code != exitUsage:
				if code != exitFailed || !strings.Contains(talk.String(), "no broker is known yet") && !strings.Contains(talk.String(), "this host is not enrolled") {
					t.Errorf("exit %d: %s", code, talk)
				}
			case path[0] == "agent":
				if stop := path[len(path)-1] == "stop"; stop && code != exitDone || !stop && (code != exitFailed || !strings.Contains(talk.String(), "no agent is running")) {
					t.Errorf("exit %d: %s", code, talk)
				}
			case code == exitUsage:
				if !strings.HasPrefix(talk.String(), "sega: ") || !strings.Contains(talk.String(), "run: sega") {
					t.Errorf("usage: %s", talk)
				}
			case code != exitLogin || !strings.Contains(talk.String(), "run: sega login"):
				t.Errorf("exit %d: %s", code, talk)
			}
			if out.Len() > 0 {
				t.Errorf("stdout has %s", out)
			}
		})
	}
}

// TestUsage: a wrong command line exits 2, says what is wrong, and does nothing.
func TestUsage(t *testing.T) {
	for line, want := range map[string]string{
		"frobnicate":                         `no command "frobnicate"`,
		"roles extra":                        `unexpected argument "extra"`,
		"roles --nope":                       "unknown flag: --nope",
		"exec":                               "ROLE is missing",
		"exec -- true":                       "ROLE is missing",
		"exec role true":                     "sega exec role -- true",
		"exec a b -- true":                   "put -- between",
		"exec a ls -la":                      "in -la; put -- between",
		"env":                                "ROLE is missing",
		"env role --format csv":              "shell, fish, powershell, dotenv and json",
		"env a b":                            `unexpected argument "b"`,
		"credential-process":                 "ROLE is missing",
		"ssh":                                "HOST is missing",
		"configure --ssh --aws --print":      "--ssh goes with",
		"configure --import --prune":         "--import and --undo-import go with",
		"configure --import --undo-import":   "--import and --undo-import go with",
		"configure --region EU!":             "not a region",
		"configure --template {{.Name":       "--template knows",
		"login a b":                          `unexpected argument "b"`,
		"login --paste --device":             "exclude each other",
		"login http://x":                     "a broker is named like",
		"revoke":                             "say what",
		"revoke role x":                      `not "role"`,
		"revoke user":                        "E-MAIL is missing",
		"revoke user a@x":                    "needs a reason",
		"revoke cert":                        "SERIAL is missing",
		"revoke host web-1":                  "needs a reason",
		"unblock host":                       "NAME is missing",
		"unblock":                            "say whom",
		"unblock user":                       "E-MAIL is missing",
		"sessions kill":                      "ID is missing",
		"audit":                              "say what",
		"audit frobnicate":                   `audit "frobnicate"`,
		"audit query --since yesterday":      "is not a time",
		"audit query --outcome maybe":        "an outcome is",
		"audit show":                         "SESSION is missing",
		"audit play ssh_1 --speed 0":         "--speed is above 0",
		"audit play ssh_1":                   "--identity FILE",
		"audit query --limit=-1":             "--limit is a number",
		"audit query --since 999999w":        "is not a time",
		"audit query --until 999999d --json": "is not a time",
	} {
		t.Run(line, func(t *testing.T) {
			a, out, talk := testApp(t)
			if code := run(t.Context(), strings.Fields(line), a); code != exitUsage || !strings.Contains(talk.String(), want) || out.Len() > 0 {
				t.Errorf("exit %d, stdout %q, stderr %q", code, out, talk)
			}
		})
	}
}

// TestUsageNamesTheCommand: the help that is named is that of the command which was mistyped.
func TestUsageNamesTheCommand(t *testing.T) {
	for line, want := range map[string]string{"audit query --nope": "sega audit query", "audit query --limit=-1": "sega audit query", "audit show": "sega audit show", "revoke user": "sega revoke user", "audit frobnicate": "sega audit", "frobnicate": "sega"} {
		a, _, talk := testApp(t)
		if code := run(t.Context(), strings.Fields(line), a); code != exitUsage || !strings.HasSuffix(talk.String(), "\n  run: "+want+" --help\n") {
			t.Errorf("%s: exit %d, stderr %q", line, code, talk)
		}
	}
}
