package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// stale are the variables that must never reach a child beside ours (design.md §5).
var stale = []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION",
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"}

const stalePrefix = "AWS_CONTAINER_"

// variables are the environment of the credentials.
func variables(g granted) [][2]string {
	return [][2]string{
		{"AWS_ACCESS_KEY_ID", g.AccessKeyID}, {"AWS_SECRET_ACCESS_KEY", string(g.SecretAccessKey.Reveal())},
		{"AWS_SESSION_TOKEN", string(g.SessionToken.Reveal())}, {"AWS_CREDENTIAL_EXPIRATION", g.Expiration.UTC().Format(time.RFC3339)},
		{"SEGA_ROLE", g.Role}, {"SEGA_SESSION", g.LoginID},
	}
}

// childEnv is our environment without stale credentials, with the new ones.
func childEnv(env []string, g granted) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains(stale, name) || strings.HasPrefix(name, stalePrefix) || name == "SEGA_ROLE" || name == "SEGA_SESSION" {
			continue
		}
		out = append(out, kv)
	}
	for _, v := range variables(g) {
		out = append(out, v[0]+"="+v[1])
	}
	return out
}

func newExec(a *app) *cobra.Command {
	var o roleOptions
	c := &cobra.Command{Use: "exec [ROLE] [-- COMMAND [ARG...]]", Short: "Run a command with a role's credentials, or a shell", GroupID: groupAccess,
		Example: "  sega exec dev-admin -- aws s3 ls\n  sega exec dev-admin          # a sub-shell",
		Long:    "Run a command with the role's temporary credentials in its environment. It takes sega's place: streams, signals and exit code are its own.\n" + pickHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); len(args) > 1 && dash != 0 && dash != 1 {
				return usagef("put -- between the role and the command: sega exec %s -- %s", args[0], strings.Join(args[1:], " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			role, argv, err := a.role(cmd, args, &o)
			if err != nil {
				return err
			}
			r, err := o.request(role)
			if err != nil {
				return err
			}
			if len(argv) == 0 {
				argv = []string{shell(a.getenv)}
			}
			path, err := exec.LookPath(argv[0])
			if err != nil {
				return kinded{fmt.Errorf("%s: %w", argv[0], errors.Unwrap(err)), kindProgram}
			}
			g, err := a.obtain(cmd.Context(), r)
			if err != nil {
				return err
			}
			a.remember(role)
			return takeOver(path, argv, childEnv(a.env(), g))
		}}
	o.flags(c)
	return c
}

func shell(getenv func(string) string) string {
	if s := getenv("SHELL"); s != "" {
		return s
	}
	return "/bin/sh"
}

func newCredentialProcess(a *app) *cobra.Command {
	var o roleOptions
	c := &cobra.Command{Use: "credential-process ROLE", Aliases: []string{"cred-process"}, Short: "Print a role's credentials as AWS's credential_process wants them", GroupID: groupAccess, Args: exactly("ROLE"),
		Example: "  # ~/.aws/config\n  [profile dev-admin]\n  credential_process = sega credential-process dev-admin",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := o.request(args[0])
			if err != nil {
				return err
			}
			form, err := a.processForm(cmd.Context(), r)
			if err == nil {
				_, err = a.out.Write(form)
			}
			return err
		}}
	o.flags(c)
	return c
}

func newEnv(a *app) *cobra.Command {
	var o roleOptions
	var format string
	c := &cobra.Command{Use: "env [ROLE]", Aliases: []string{"export"}, Short: "Print a role's credentials for a shell to take over", GroupID: groupAccess, Args: atMost(1), Long: "Print a role's credentials as a shell or a program takes them over.\n" + pickHelp,
		Example: "  eval \"$(sega env dev-admin)\"\n  sega env dev-admin --format fish | source",
		RunE: func(cmd *cobra.Command, args []string) error {
			write, ok := envFormats[format]
			if !ok {
				return usagef("the formats are shell, fish, powershell, dotenv and json")
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
	c.Flags().StringVar(&format, "format", "shell", "shell, fish, powershell, dotenv or json")
	return c
}

// envFormats write variables, every value quoted by the rules of its reader.
var envFormats = map[string]func([][2]string) (string, error){
	"shell": lines(func(n, v string) string { return "export " + n + "='" + strings.ReplaceAll(v, "'", `'\''`) + "'" }),
	"fish": lines(func(n, v string) string {
		return "set -gx " + n + " '" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
	}),
	"powershell": lines(func(n, v string) string { // takes typographic quotes for quotes
		return "$Env:" + n + " = '" + strings.NewReplacer("'", "''", "‘", "‘‘", "’", "’’", "‚", "‚‚", "‛", "‛‛").Replace(v) + "'"
	}),
	"dotenv": lines(func(n, v string) string {
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

func lines(one func(name, value string) string) func([][2]string) (string, error) {
	return func(vars [][2]string) (string, error) {
		var b strings.Builder
		for _, v := range vars {
			b.WriteString(one(v[0], v[1]) + "\n")
		}
		return b.String(), nil
	}
}

// runChild runs a child beside us, on our terminal, and returns its exit code as an error.
func runChild(ctx context.Context, c *exec.Cmd) error {
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := superviseChild(ctx, c)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return childError(childCode(exit))
	}
	return err
}
