package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newEnv(a *app) *cobra.Command {
	var o roleOptions
	var format string
	c := &cobra.Command{Use: "env [ROLE]", Aliases: []string{"export"}, Short: "Print a role's credentials for a shell to take over", GroupID: groupAccess, Args: atMost(1),
		Example: "  eval \"$(sega env dev-admin)\"\n  sega env dev-admin --format fish | source\n  sega env dev-admin --format powershell | Out-String | Invoke-Expression",
		Long: "Print a role's credentials for a shell to take over. The formats for shells also remove variables that would come before them.\n" +
			pickHelp + "\n" + "The format shell is for sh, bash, zsh and ksh. What dotenv writes all dialects read alike: docker --env-file, Compose, python-dotenv, Node's, systemd and shells.",
		RunE: func(cmd *cobra.Command, args []string) error {
			write, err := envFormat(format)
			if err != nil {
				return err
			}
			role, _, err := a.role(cmd, args, &o)
			if err != nil {
				return err
			}
			r, err := o.request(role)
			if err != nil {
				return err
			}
			g, err := a.obtain(cmd.Context(), r)
			if err != nil {
				return err
			}
			a.remember(role)
			text, err := write(variables(g))
			if err == nil {
				_, err = fmt.Fprint(a.out, text)
			}
			return err
		}}
	o.flags(c)
	envFlag(c, &format)
	return c
}

func envFlag(c *cobra.Command, format *string) {
	c.Flags().StringVar(format, "format", "shell", "shell, fish, powershell, dotenv or json")
}

// envFormat is the writer of a format.
func envFormat(name string) (func([][2]string) (string, error), error) {
	write, ok := envFormats[name]
	if !ok {
		return nil, usagef("the formats are shell, fish, powershell, dotenv and json")
	}
	return write, nil
}

// plainValue is what every reader of dotenv files takes as it is, and what all of AWS's values are.
// Quotes they read differently: docker's --env-file keeps them, python-dotenv knows no \$ between them.
func plainValue(v string) bool {
	return v != "" && !strings.ContainsFunc(v, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("_./+=:@,-", r)
	})
}

// envFormats write variables, every value quoted by the rules of its reader. Those for shells remove
// what would come before them.
var envFormats = map[string]func([][2]string) (string, error){
	"shell": lines(func(n string) string { return "unset " + n },
		func(n, v string) string { return "export " + n + "='" + strings.ReplaceAll(v, "'", `'\''`) + "'" }),
	"fish": lines(func(n string) string { return "set -e " + n }, func(n, v string) string {
		return "set -gx " + n + " '" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
	}),
	"powershell": lines(func(n string) string { return "Remove-Item Env:" + n + " -ErrorAction Ignore" }, func(n, v string) string { // takes typographic quotes for quotes
		return "$Env:" + n + " = '" + strings.NewReplacer("'", "''", "‘", "‘‘", "’", "’’", "‚", "‚‚", "‛", "‛‛").Replace(v) + "'"
	}),
	"dotenv": lines(nil, func(n, v string) string {
		if plainValue(v) {
			return n + "=" + v
		}
		return n + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(v) + `"`
	}),
	"json": func(vars [][2]string) (string, error) {
		m := map[string]string{}
		for _, v := range vars {
			m[v[0]] = v[1]
		}
		raw, err := json.Marshal(m)
		return string(raw) + "\n", err
	},
}

// lines writes a line for each variable that is to go, and one for each that is to be set.
func lines(remove func(name string) string, set func(name, value string) string) func([][2]string) (string, error) {
	return func(vars [][2]string) (string, error) {
		var b strings.Builder
		given := map[string]bool{}
		for _, v := range vars {
			given[v[0]] = true
		}
		for _, name := range staleVariables {
			if remove != nil && !given[name] {
				b.WriteString(remove(name) + "\n")
			}
		}
		for _, v := range vars {
			b.WriteString(set(v[0], v[1]) + "\n")
		}
		return b.String(), nil
	}
}
