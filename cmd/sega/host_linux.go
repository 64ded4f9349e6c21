package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sega/cmd/sega/host"
	"sega/keychain/secret"
)

func newHost(a *app) *cobra.Command {
	c := &cobra.Command{Use: "host", Short: "Enrol this machine as a host, and answer its sshd", GroupID: groupHost, Args: cobra.ArbitraryArgs,
		Example: "  sega host enroll --broker sega.corp.example --token-file db-1.token\n  sega host status",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q of hosts", args[0])
			}
			return usagef("say what: enroll, run, status, check, keys, audit or leave")
		}}
	dir := c.PersistentFlags().String("dir", host.Dir, "folder of the host's files")
	c.AddCommand(newHostEnroll(a, dir), newHostRun(a, dir), newHostCheck(a, dir), newHostKeys(a, dir), newHostAudit(a, dir), newHostStatus(a, dir), newHostLeave(a, dir))
	return c
}

// hostOptions are the flags of an enrolment.
type hostOptions struct {
	host.Config
	token     string
	aws       bool
	replace   bool
	print     bool
	groups    []string
	unix      []string
	shell     string
	kill      bool
	brokerArg string
}

func newHostEnroll(a *app, dir *string) *cobra.Command {
	var o hostOptions
	c := &cobra.Command{Use: "enroll", Short: "Enrol this host, and have its sshd take one-hop certificates alone for people", Args: atMost(0),
		Long: "Enrol this host by the token of `sega hosts token`: it makes a key of the host's own, gets a host certificate, and writes one file\n" +
			"of sshd's configuration. sshd checks that file before it reads it; where it does not take it, everything is as before.\n" +
			"Repeat it to bring an enrolled host up to date. `sega host leave` takes all of it away.",
		Example: "  sega host enroll --broker sega.corp.example --token-file db-1.token\n  sega host enroll --broker sega.corp.example --print",
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := o.enrolment(a, *dir)
			if err != nil {
				return err
			}
			if err := e.Complete(cmd.Context(), *dir); err != nil {
				return err
			}
			if o.print {
				_, err := io.WriteString(a.out, e.Plan())
				return err
			}
			if o.aws {
				if e.Document, err = host.InstanceDocument(cmd.Context(), a.getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")); err != nil {
					return err
				}
			}
			return e.Run(cmd.Context())
		}}
	name, _ := os.Hostname()
	f := c.Flags()
	f.StringVar(&o.Name, "name", strings.ToLower(name), "of this host, as its token has it")
	f.StringVar(&o.brokerArg, "broker", "", "address of the broker (default: SEGA_BROKER)")
	f.StringVar(&o.CAFile, "ca-file", "", "trust of the broker's certificate, as PEM (default: SEGA_CA_FILE, else the system's)")
	f.StringVar(&o.token, "token-file", "", "file of the join token, - for standard input")
	f.BoolVar(&o.aws, "aws", false, "enrol by the identity document of this EC2 instance, in place of a token")
	f.StringVar(&o.By, "principals", host.ByCommand, "how sshd learns who may log in: command, which asks about each certificate, or file")
	f.BoolVar(&o.PlainKeys, "plain-keys", false, "sshd knows no certificates: it asks for the key of each session")
	f.BoolVar(&o.replace, "replace", false, "take the place of another user CA that sshd trusts")
	f.BoolVar(&o.print, "print", false, "print what would be done, and do nothing")
	f.StringVar(&o.SSHD, "sshd", "/usr/sbin/sshd", "program of sshd")
	f.StringVar(&o.SSHDConfig, "sshd-config", "/etc/ssh/sshd_config", "its configuration")
	f.StringVar(&o.Snippet, "snippet", "/etc/ssh/sshd_config.d/00-sega.conf", "file of it that is sega's")
	f.StringVar(&o.User, "user", host.DefaultUser, "whom sshd asks as")
	f.StringVar(&o.Socket, "socket", "/run/sega-host/socket", "of the daemon")
	f.StringVar(&o.Sega, "sega", "", "path of sega for sshd (default: of this program)")
	f.StringArrayVar(&o.groups, "account-group", nil, "make Unix accounts for people of this group, where the token allows it; may be repeated")
	f.StringArrayVar(&o.unix, "unix-group", nil, "Unix group that such accounts are put into; may be repeated")
	f.StringVar(&o.shell, "shell", "", "of such accounts (default: the system's)")
	f.BoolVar(&o.kill, "kill", false, "end what still runs of such an account when it goes")
	_ = c.RegisterFlagCompletionFunc("principals", completionFlag(completeWords(host.ByCommand, host.ByFile))) // the flag is there
	return c
}

// enrolment gathers what an enrolment is told.
func (o hostOptions) enrolment(a *app, dir string) (*host.Enrolment, error) {
	if os.Geteuid() != 0 && !o.print {
		return nil, withKind(kindConfig, withHint(fmt.Errorf("a host is enrolled by root"), "run: sudo sega host enroll …"))
	}
	var err error
	if o.Broker, err = a.origin(o.brokerArg); err != nil {
		return nil, err
	}
	if o.CAFile == "" {
		o.CAFile = a.getenv("SEGA_CA_FILE")
	}
	if o.Sega == "" {
		if o.Sega, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	o.Unit = host.UnitPath()
	if dir != host.Dir {
		o.Unit = "" // a second host on this machine is somebody's experiment
	}
	if len(o.groups) > 0 {
		o.Accounts = &host.Accounts{Groups: o.groups, UnixGroups: o.unix, Shell: o.shell, Kill: o.kill}
	}
	e := &host.Enrolment{Config: o.Config, Replace: o.replace, UserAgent: userAgent(), Out: a.err}
	if o.token != "" && !o.print {
		e.Token, err = a.readToken(o.token)
	}
	return e, err
}

// maxToken bounds a token's file.
const maxToken = 4096

func (a *app) readToken(path string) (secret.Secret, error) {
	f := a.stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return secret.Secret{}, err
		}
		defer f.Close()
	}
	data, err := io.ReadAll(io.LimitReader(f, maxToken))
	if err != nil {
		return secret.Secret{}, err
	}
	defer clear(data)
	return secret.FromString(strings.TrimSpace(string(data))), nil
}

func newHostRun(a *app, dir *string) *cobra.Command {
	return &cobra.Command{Use: "run", Short: "Run the host's daemon: it keeps what logins are judged by, and renews the certificate", Args: atMost(0), Example: "  sega host run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := host.NewDaemon(*dir, userAgent(), slog.New(slog.NewTextHandler(a.err, nil)))
			if err != nil {
				return notEnrolled(err)
			}
			return d.Run(cmd.Context())
		}}
}

func newHostCheck(a *app, dir *string) *cobra.Command {
	return &cobra.Command{Use: "check LOGIN SERIAL CA KEY-ID", Short: "Answer sshd: the principal that opens the login, or nothing", Args: exactly("LOGIN", "SERIAL", "CA", "KEY-ID"),
		Long:    "Answer sshd's AuthorizedPrincipalsCommand. It asks no network: what the daemon holds decides, without it the last bundle on the disk.",
		Example: "  AuthorizedPrincipalsCommand /usr/bin/sega host check -- %u %s %F %i",
		RunE: func(_ *cobra.Command, args []string) error {
			return host.Check(*dir, host.Question{Login: args[0], Serial: args[1], CA: args[2], KeyID: args[3]}, a.out, a.sayAsHost)
		}}
}

func newHostKeys(a *app, dir *string) *cobra.Command {
	return &cobra.Command{Use: "keys LOGIN", Short: "Answer an sshd that knows no certificates: the keys of sessions that are being opened", Args: exactly("LOGIN"),
		Long:    "Answer sshd's AuthorizedKeysCommand. The daemon asks the broker each time; where it cannot, there is no key.",
		Example: "  AuthorizedKeysCommand /usr/bin/sega host keys -- %u",
		RunE: func(_ *cobra.Command, args []string) error {
			return host.Keys(*dir, args[0], a.out, a.sayAsHost)
		}}
}

func newHostAudit(a *app, dir *string) *cobra.Command {
	var since string
	c := &cobra.Command{Use: "audit [FILE]", Short: "Find logins that no recording covers, in what sshd has logged", Args: atMost(1),
		Long: "Find logins that no recording covers: by password, by a key of somebody's own, by a certificate that no session of sega's was opened with.\n" +
			"It reads systemd's journal, or a file of syslog's, - for standard input. Each is an event of the broker's log, once. Exit code 1 where there are any.",
		Example: "  sega host audit --since yesterday\n  sega host audit /var/log/auth.log",
		RunE: func(cmd *cobra.Command, args []string) error {
			v, bypasses, err := a.auditHost(cmd.Context(), *dir, since, args)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.err, "%d logins, %d that no recording covers\n", v.Logins, bypasses)
			if v.Unread > 0 {
				fmt.Fprintf(a.err, "sega: warning: %d lines look like logins and are of no form that is known: they were not asked about\n", v.Unread)
			}
			if v.LeftOut > 0 {
				fmt.Fprintf(a.err, "sega: warning: %d of them are not in the broker's log yet, which takes so many of a host in a while: repeat the command later\n", v.LeftOut)
			}
			if bypasses > 0 {
				return fmt.Errorf("%s come in past the bastion", plural(bypasses, "login has", "logins have"))
			}
			return nil
		}}
	c.ValidArgsFunction = completionFunc(completeFiles)
	c.Flags().StringVar(&since, "since", "", "of the journal, as journalctl takes it: yesterday, '2026-01-31 12:00'")
	return c
}

// auditHost shows the logins that nothing covers.
func (a *app) auditHost(ctx context.Context, dir, since string, args []string) (v host.Audited, bypasses int, err error) {
	var rows [][]string
	read := func(r io.Reader) (err error) {
		v, err = host.Audit(ctx, dir, userAgent(), r, func(b host.Bypass) error {
			bypasses++
			if a.json {
				return writeJSON(a.out, b)
			}
			when := "-"
			if !b.Time.IsZero() {
				when = stamp(b.Time)
			}
			rows = append(rows, []string{when, b.Login, b.Source, b.Method, b.KeyID, b.Why})
			return nil
		})
		return err
	}
	switch {
	case len(args) == 0:
		err = host.Journal(ctx, since, read)
	case since != "":
		err = usagef("--since is for the journal, and a file was named")
	case args[0] == "-":
		err = read(a.stdin)
	default:
		var f *os.File
		if f, err = os.Open(args[0]); err == nil {
			err = read(f)
			_ = f.Close()
		}
	}
	if err == nil && len(rows) > 0 {
		err = table(a.out, []string{"TIME", "LOGIN", "FROM", "BY", "KEY ID", "WHY IT IS NOT COVERED"}, rows)
	}
	return v, bypasses, err
}

// sayAsHost writes a line to the system's log, and to whoever runs it by hand.
func (a *app) sayAsHost(line string) {
	line = escapeLine(line)
	host.Syslog(line)
	fmt.Fprintf(a.err, "sega: %s\n", line)
}

// notEnrolled is that a host's own files cannot be read.
func notEnrolled(err error) error {
	return withKind(kindConfig, withHint(err, "run: sega host enroll; a host whose files are elsewhere is named by --dir"))
}

func newHostStatus(a *app, dir *string) *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Say what this host judges logins by, and how old that is", Args: atMost(0), Example: "  sega host status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := host.ReadStatus(cmd.Context(), *dir, a.now())
			if err != nil {
				return notEnrolled(err)
			}
			if a.json {
				return writeJSON(a.out, s)
			}
			return showHost(a.out, s)
		}}
}

func showHost(w io.Writer, s host.Status) error {
	rows := [][]string{{"broker", s.Broker}, {"daemon", map[bool]string{true: "answers", false: "does not answer: the last bundle on the disk holds; start it: sega host run"}[s.Daemon]}}
	if s.Fault != "" {
		rows = append(rows, []string{"fault", s.Fault})
	} else {
		rows = append(rows, []string{"bundle", fmt.Sprintf("version %d, CA lists %d, revocation list %d", s.Version, s.Trust, s.KRL)},
			[]string{"confirmed", stamp(s.Confirmed) + ", " + s.Age + " ago"}, []string{"logins", strings.Join(s.Logins, " ")})
	}
	if s.Blocked {
		rows = append(rows, []string{"revoked", "this host was revoked: every login is refused"})
	} else if !s.Lost.IsZero() {
		rows = append(rows, withoutBroker(s)...)
	}
	if !s.Certificate.IsZero() {
		rows = append(rows, []string{"certificate until", stamp(s.Certificate)})
	}
	if s.Renewal != "" {
		rows = append(rows, []string{"not renewed", s.Renewal})
	}
	rows = append(rows, []string{"sshd", sshdState(s.SSHD)})
	if s.SSHD != nil && s.SSHD.Fault != "" {
		rows = append(rows, []string{"sshd's fault", s.SSHD.Fault})
	}
	return table(w, []string{"host", s.Name}, rows)
}

// withoutBroker says since when the daemon gets no bundle, and what is good until when all the same.
func withoutBroker(s host.Status) [][]string {
	why, holds := s.LostWhy, "what was confirmed last, until the broker answers"
	if why == "" {
		why = "the broker's bundle does not come; root sees why"
	}
	switch {
	case s.Fault != "":
		holds = "nothing"
	case s.PlainKeys:
		holds = "nothing: keys come from the broker at each login"
	case !s.Certificate.IsZero():
		holds += "; the host's certificate, until " + stamp(s.Certificate)
	}
	return [][]string{{"broker lost", "since " + stamp(s.Lost) + ": " + escapeLine(why)}, {"holds meanwhile", holds}}
}

func sshdState(s *host.SSHD) string {
	switch {
	case s == nil:
		return "only root can look at it"
	case s.Process == 0:
		return "none of this configuration was found to run"
	case s.Fault != "":
		return fmt.Sprintf("process %d runs", s.Process)
	}
	return fmt.Sprintf("process %d runs by sega's configuration", s.Process)
}

func newHostLeave(a *app, dir *string) *cobra.Command {
	var yes bool
	c := &cobra.Command{Use: "leave", Short: "Take away what enrolment has written, and have sshd go on without it", Args: atMost(0), Example: "  sega host leave --yes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := host.Load(*dir)
			if err != nil {
				return notEnrolled(err)
			}
			if !yes {
				answer, err := a.confirmLeave(cmd.Context(), c)
				if err != nil || !answer {
					return err
				}
			}
			if err := c.Leave(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintf(a.err, "%s has left; the broker still lists it, until security staff run: sega revoke host %s\n", escapeLine(c.Name), escapeLine(c.Name))
			if c.Unit == "" {
				fmt.Fprintln(a.err, "stop its daemon: sega host run")
			}
			return nil
		}}
	c.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	return c
}

// confirmLeave shows what goes, and asks.
func (a *app) confirmLeave(ctx context.Context, c host.Config) (bool, error) {
	fmt.Fprintf(a.err, "people will not get into %s any more; away go %s, %s, and the host's key\n", escapeLine(c.Name), c.Snippet, c.Certificate)
	answer, err := a.ask(ctx, "leave? [y/N] ")
	if err == nil && answer != "y" && answer != "yes" {
		err = errCancelled
	}
	return err == nil, err
}
