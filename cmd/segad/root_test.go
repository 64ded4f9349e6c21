package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		walk(sub, visit)
	}
}

// TestCommandTree: every command explains itself, and no flag hides another.
func TestCommandTree(t *testing.T) {
	seen := map[string]bool{}
	walk(newRoot(), func(c *cobra.Command) {
		path := c.CommandPath()
		if seen[path] {
			t.Errorf("%s is there twice", path)
		}
		seen[path] = true
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || !strings.Contains(c.Example, "segad ") {
			t.Errorf("%s: short %q, example %q", path, c.Short, c.Example)
		}
		short := map[string]string{}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || c.InheritedFlags().Lookup(f.Name) != nil {
				t.Errorf("%s: --%s says nothing or hides that of a parent", path, f.Name)
			}
			if f.Shorthand != "" && short[f.Shorthand] != "" {
				t.Errorf("%s: -%s is --%s and --%s", path, f.Shorthand, f.Name, short[f.Shorthand])
			}
			short[f.Shorthand] = f.Name
		})
	})
	for _, want := range []string{"broker", "bastion", "ca init", "ca list", "issuer init", "policy check", "dev"} {
		if !seen["segad "+want] {
			t.Errorf("there is no %q", want)
		}
	}
}

// TestCompleted: a shell is offered the commands, the CAs where one is named, and files where a flag takes one.
func TestCompleted(t *testing.T) {
	for line, want := range map[string]string{
		"ca rota":            "rotate\n:4\n",
		"ca rotate h":        "hop\nhost\n:4\n",
		"ca list --config b": ":0\n",
	} {
		root := newRoot()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(append([]string{cobra.ShellCompNoDescRequestCmd}, strings.Fields(line)...))
		if err := root.Execute(); err != nil || out.String() != want {
			t.Errorf("%q: %v, %q, want %q", line, err, out.String(), want)
		}
	}
}

// TestNothingStarts: without what they need the servers' commands say so and start nothing.
func TestNothingStarts(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for line, want := range map[string]string{
		"frobnicate":               `no command "frobnicate"`,
		"broker --nope":            "unknown flag",
		"broker extra":             "",
		"broker --config " + none:  none,
		"bastion --config " + none: none,
		"bastion extra":            "",
		"ca init extra":            "",
		"ca list --dir " + none:    "required flag",
		"ca init":                  "of the flags in the group",
		"ca rotate access":         "required flag",
		"issuer init extra":        "",
		"issuer list":              "required flag",
		"issuer publish":           "",
		"policy check":             "",
		"policy check " + none:     none,
		"dev up extra":             "",
		"dev env --data " + none:   none,
		"dev login":                "",
		"dev browser":              "",
	} {
		t.Run(strings.ReplaceAll(line, none, "NONE"), func(t *testing.T) {
			root := newRoot()
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetErr(&out)
			root.SetArgs(strings.Fields(line))
			err := root.ExecuteContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
				t.Errorf("error %v, output %q", err, &out)
			}
			if usage := want == "" && !strings.Contains(line, "--") || strings.Contains(want, " flag") || strings.Contains(want, "flags") || strings.Contains(want, "no command"); usage != errors.Is(err, errUsage) {
				t.Errorf("usage error is %v: %v", errors.Is(err, errUsage), err)
			}
		})
	}
}

// TestGroupsOfCommands: a command that only holds others prints its help and fails nothing.
func TestGroupsOfCommands(t *testing.T) {
	for _, name := range []string{"", "ca", "policy", "dev"} {
		root := newRoot()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(strings.Fields(name))
		if err := root.ExecuteContext(t.Context()); err != nil || !strings.Contains(out.String(), "Usage:") {
			t.Errorf("%q: %v, %q", name, err, out.String())
		}
	}
}
