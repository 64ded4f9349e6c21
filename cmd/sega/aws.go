package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
	"sega/keychain"
	"sega/keychain/secret"
)

// enough is how long cached credentials must still live to be handed out: botocore refreshes by
// force at 10 minutes.
const enough = 10 * time.Minute

// stale are the variables that must never reach a child beside ours (design.md §5).
var stale = []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION",
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"}

const stalePrefix = "AWS_CONTAINER_"

// roleOptions are the flags of everything that needs a role's credentials.
type roleOptions struct {
	reason, ticket, duration string
}

func (o *roleOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.reason, "reason", "", "why, where policy asks for it")
	c.Flags().StringVar(&o.ticket, "ticket", "", "ticket, where policy asks for it")
	c.Flags().StringVarP(&o.duration, "duration", "d", "", "how long, like 45m or 3600 (seconds)")
}

func (o *roleOptions) seconds() (int, error) {
	if o.duration == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(o.duration)
	if n, atoiErr := strconv.Atoi(o.duration); atoiErr == nil && n <= 12*3600 {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 15*time.Minute || d > 12*time.Hour {
		return 0, usagef("a duration is between 15m and 12h, like 45m or 3600")
	}
	return int(d.Seconds()), nil
}

// sealedCredentials is the JSON of cached credentials inside the sealed store.
type sealedCredentials struct {
	api.Credentials
	Secret string `json:"secret_access_key"`
	Token  string `json:"session_token"`
}

// credentials returns a role's credentials: cached ones that the broker still stands by, or new ones.
func (s *session) credentials(ctx context.Context, role string, o roleOptions) (api.Credentials, error) {
	seconds, err := o.seconds()
	if err != nil {
		return api.Credentials{}, err
	}
	store, err := s.app.secrets()
	if err != nil {
		return api.Credentials{}, err
	}
	cached, err := s.cached(ctx, store, role, o)
	if err != nil || cached.AccessKeyID != "" {
		return cached, err
	}
	fresh, err := s.Credentials(ctx, api.CredentialsRequest{Role: role, Reason: o.reason, Ticket: o.ticket, Seconds: seconds})
	if err != nil {
		return fresh, err
	}
	for _, n := range fresh.Notices {
		fmt.Fprintf(s.app.err, "sega: %s\n", escape(n))
	}
	raw, err := json.Marshal(fresh.Wire())
	if err != nil {
		return fresh, err
	}
	if err := store.Put(itemAWS+role, secret.New(raw)); err != nil {
		fmt.Fprintf(s.app.err, "sega: the credentials are not cached: %s\n", escape(err.Error()))
	}
	return fresh, nil
}

// cached returns what is cached where the broker lets it be used once more; else nothing. Every
// hand-out without an agent asks the broker first (R12).
func (s *session) cached(ctx context.Context, store *keychain.Store, role string, o roleOptions) (api.Credentials, error) {
	raw, err := store.Get(itemAWS + role)
	if errors.Is(err, keychain.ErrNotFound) {
		return api.Credentials{}, nil
	}
	if err != nil {
		return api.Credentials{}, err
	}
	var c sealedCredentials
	if json.Unmarshal(raw.Reveal(), &c) != nil || c.Expiration.Sub(s.app.now()) < enough || o.duration != "" {
		return api.Credentials{}, nil
	}
	err = s.Reuse(ctx, api.ReuseRequest{Role: role, AccessKeyID: c.AccessKeyID, Reason: o.reason, Ticket: o.ticket})
	switch {
	case err == nil:
		c.SecretAccessKey, c.SessionToken = secret.FromString(c.Secret), secret.FromString(c.Token)
		return c.Credentials, nil
	case api.IsKind(err, api.KindNotFound):
		return api.Credentials{}, store.Delete(itemAWS + role)
	case api.IsKind(err, api.KindRevoked):
		return api.Credentials{}, errors.Join(err, store.Delete(itemAWS+role))
	}
	return api.Credentials{}, err
}

// variables are the environment of the credentials.
func variables(c api.Credentials, loginID string) [][2]string {
	return [][2]string{
		{"AWS_ACCESS_KEY_ID", c.AccessKeyID}, {"AWS_SECRET_ACCESS_KEY", string(c.SecretAccessKey.Reveal())},
		{"AWS_SESSION_TOKEN", string(c.SessionToken.Reveal())}, {"AWS_CREDENTIAL_EXPIRATION", c.Expiration.UTC().Format(time.RFC3339)},
		{"SEGA_ROLE", c.Role}, {"SEGA_SESSION", loginID},
	}
}

// childEnv is our environment without stale credentials, with the new ones.
func childEnv(env []string, c api.Credentials, loginID string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains(stale, name) || strings.HasPrefix(name, stalePrefix) || name == "SEGA_ROLE" || name == "SEGA_SESSION" {
			continue
		}
		out = append(out, kv)
	}
	for _, v := range variables(c, loginID) {
		out = append(out, v[0]+"="+v[1])
	}
	return out
}

func newExec(a *app) *cobra.Command {
	var o roleOptions
	c := &cobra.Command{Use: "exec ROLE [-- COMMAND [ARG...]]", Short: "Run a command with a role's credentials, or a shell", GroupID: groupAccess,
		Example: "  sega exec dev-admin -- aws s3 ls\n  sega exec dev-admin          # a sub-shell",
		Long:    "Run a command with the role's temporary credentials in its environment. It takes sega's place: streams, signals and exit code are its own.",
		Args: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			if len(args) == 0 || dash == 0 {
				return usagef("ROLE is missing; your roles: sega roles")
			}
			if len(args) > 1 && dash != 1 {
				return usagef("put -- between the role and the command: sega exec %s -- %s", args[0], strings.Join(args[1:], " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			argv := args[1:]
			if len(argv) == 0 {
				argv = []string{shell(a.getenv)}
			}
			path, err := exec.LookPath(argv[0])
			if err != nil {
				return fmt.Errorf("%s: %w", argv[0], errors.Unwrap(err))
			}
			creds, err := s.credentials(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			return takeOver(path, argv, childEnv(a.env(), creds, s.saved.Session.LoginID))
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
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			creds, err := s.credentials(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			// Source: AWS SDKs and tools reference, "Process credential provider", Version 1.
			return json.NewEncoder(a.out).Encode(struct {
				Version                                    int
				AccessKeyId, SecretAccessKey, SessionToken string
				Expiration                                 string
			}{1, creds.AccessKeyID, string(creds.SecretAccessKey.Reveal()), string(creds.SessionToken.Reveal()), creds.Expiration.UTC().Format(time.RFC3339)})
		}}
	o.flags(c)
	return c
}

func newEnv(a *app) *cobra.Command {
	var o roleOptions
	var format string
	c := &cobra.Command{Use: "env ROLE", Aliases: []string{"export"}, Short: "Print a role's credentials for a shell to take over", GroupID: groupAccess, Args: exactly("ROLE"),
		Example: "  eval \"$(sega env dev-admin)\"\n  sega env dev-admin --format fish | source",
		RunE: func(cmd *cobra.Command, args []string) error {
			write, ok := envFormats[format]
			if !ok {
				return usagef("the formats are shell, fish, powershell, dotenv and json")
			}
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			creds, err := s.credentials(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			text, err := write(variables(creds, s.saved.Session.LoginID))
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
