package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/cmd/sega/agent"
	"sega/sshca"
)

type sshOptions struct {
	reason, ticket string
	renew, quiet   bool
	key            ownKeyOptions
	reach          string
}

func newSSH(a *app) *cobra.Command {
	var o sshOptions
	c := &cobra.Command{Use: "ssh [USER@]HOST [-- COMMAND...]", Short: "Open a recorded SSH session on a host", GroupID: groupAccess,
		Example: "  sega ssh web-1\n  sega ssh root@web-1 -- uptime\n  sega ssh --key ~/.ssh/id_ed25519_sk web-1",
		Long: "Open a session with your own OpenSSH client, through the bastion, which records it. The key lives in memory and its certificate for minutes.\n" +
			"With --key it is one of your own, which your ssh uses as it always does: from its file, an SSH agent or a FIDO2 token.\n" +
			"Your ~/.ssh/config counts. For scp, sftp, rsync, git, and options of ssh like -L: sega configure --ssh, then ssh HOST.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && !o.renew && o.reach == "" {
				return usagef("HOST is missing; your hosts: sega hosts")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.reach != "" {
				return reach(cmd.Context(), o.reach)
			}
			if err := o.key.check(); err != nil {
				return err
			}
			if o.renew {
				return o.heard(a.renewSSH(cmd.Context(), o))
			}
			command := args[1:]
			if len(command) > 0 && command[0] == "--" { // kept by pflag behind the first argument
				command = command[1:]
			}
			if len(command) > 0 && strings.HasPrefix(command[0], "-") { // which ssh would take for an option of its own
				return usagef("behind HOST comes a command, and %q is none; for ssh's options: sega configure --ssh, then ssh %s … %s", command[0], command[0], args[0])
			}
			return a.ssh(cmd.Context(), args[0], command, o)
		}}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if strings.HasPrefix(err.Error(), "unknown shorthand") { // as those of ssh are
			return usagef("%s; for ssh's options: sega configure --ssh, then ssh … HOST", err)
		}
		return usageError{err.Error()}
	})
	c.Flags().SetInterspersed(false)
	c.Flags().StringVar(&o.reason, "reason", "", "why, where policy asks for it")
	c.Flags().StringVar(&o.ticket, "ticket", "", "ticket, where policy asks for it")
	c.Flags().StringVar(&o.reach, "reach", "", "say by the exit code whether a bastion, HOST:PORT, takes connections, and do no more")
	o.key.flags(c)
	c.Flags().BoolVar(&o.renew, "renew", false, "renew the certificate that the block of sega configure --ssh uses, and do no more")
	c.Flags().BoolVar(&o.quiet, "quiet", false, "say of a failed --renew nothing but the exit code: on the way to a host the bastion's lines of the block ask again, and speak")
	return c
}

// heard is what a person hears of a renewal: its exit code alone where somebody else says the rest.
func (o sshOptions) heard(err error) error {
	if err == nil || !o.quiet {
		return err
	}
	return childError(exitCode(err))
}

func (a *app) ssh(ctx context.Context, target string, command []string, o sshOptions) error {
	login, host, named := strings.Cut(target, "@")
	if !named {
		login, host = "", target
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	if login == "" {
		if login, err = s.loginAt(ctx, host); err != nil {
			return err
		}
	}
	if !plainName(login) || !plainName(host) {
		return usagef("%q is not of the form USER@HOST", target)
	}
	dir, err := os.MkdirTemp("", "sega-ssh-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	identity, stop, err := s.identity(ctx, dir, o)
	if err != nil {
		return err
	}
	defer stop()
	args, err := s.sshArgs(ctx, dir, identity, login, host)
	if err != nil {
		return err
	}
	path, err := exec.LookPath("ssh")
	if err != nil {
		return withKind(kindProgram, withHint(errors.New("there is no ssh on this machine"), "install the OpenSSH client"))
	}
	return runChild(ctx, exec.Command(path, slices.Concat(bannerTime(ctx, path, args), args, command)...))
}

// identity has a key certified, and returns the options that make OpenSSH use it: a fresh one at a socket in dir, or one
// of the person's own. It ends with stop.
func (s *session) identity(ctx context.Context, dir string, o sshOptions) (options []string, stop func(), err error) {
	if o.key.file != "" {
		options, err = s.ownKeyArgs(ctx, dir, o)
		return options, func() {}, err
	}
	key, err := agent.NewKey(ctx, func(ctx context.Context, public ssh.PublicKey) (*ssh.Certificate, error) {
		return s.certify(ctx, public, o, nil)
	})
	if err != nil {
		return nil, nil, err
	}
	stop, err = serveKey(dir, key)
	return []string{"IdentityAgent=" + filepath.Join(dir, "agent"), "IdentityFile=none", "IdentitiesOnly=no"}, stop, err
}

// plainName keeps what is typed from becoming an option, a route or a pattern.
func plainName(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || strings.ContainsRune("%+@/\\*?!\"',;:=#$`&|<>()\x7f", r) })
}

// loginAt picks the account where only one is allowed, or where one is named like the person here.
func (s *session) loginAt(ctx context.Context, host string) (string, error) {
	v, err := s.Hosts(ctx)
	if err != nil {
		return "", err
	}
	for _, h := range v.Hosts {
		if h.Name != host {
			continue
		}
		switch me := s.app.getenv("USER"); {
		case !h.Allowed:
			return "", api.Errorf(api.KindDenied, "%s", h.Why)
		case len(h.Logins) == 1:
			return h.Logins[0], nil
		case slices.Contains(h.Logins, me):
			return me, nil
		}
		return "", usagef("say as whom: sega ssh USER@%s, with USER one of %s", host, strings.Join(h.Logins, ", "))
	}
	return "", api.Errorf(api.KindDenied, "no host %q is known", host).WithHint("run: sega hosts")
}

// certify asks for an access certificate for a key.
func (s *session) certify(ctx context.Context, key ssh.PublicKey, o sshOptions, proof *api.KeyProof) (*ssh.Certificate, error) {
	answer, err := s.Certificate(ctx, api.CertificateRequest{PublicKey: string(ssh.MarshalAuthorizedKey(key)), Reason: o.reason, Ticket: o.ticket, Proof: proof})
	if err != nil {
		return nil, err
	}
	parsed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(answer.Certificate))
	if err != nil {
		return nil, fmt.Errorf("the broker's certificate is malformed: %w", err)
	}
	cert, ok := parsed.(*ssh.Certificate)
	if !ok {
		return nil, errors.New("the broker answered with a key that is no certificate")
	}
	return cert, s.app.learnFront(ctx, s.saved().Origin, answer.FrontCAs)
}

// learnFront takes over the front CAs that come with each certificate of a broker: while one rotates, bastions show what the
// login did not know yet. A login to another broker may end meanwhile, in another process: its word stays.
func (a *app) learnFront(ctx context.Context, origin string, lines []string) error {
	known := func() (p pinned, yes bool, err error) {
		p, err = a.pinned()
		return p, err != nil || len(lines) == 0 || p.Configuration.Origin != origin || slices.Equal(lines, p.Configuration.FrontCAs), err
	}
	if _, yes, err := known(); yes {
		return err
	}
	done, err := a.turn(ctx, pinnedFile)
	if err != nil {
		return err
	}
	defer done()
	p, yes, err := known()
	if yes {
		return err
	}
	p.Configuration.FrontCAs = lines
	return a.pin(p)
}

// pin remembers a broker, in one's turn. The block of `sega configure --ssh` goes by a file of its own, which follows where
// somebody has made it: a CA that took over while nobody was logged in comes with no certificate as news.
func (a *app) pin(p pinned) error {
	if _, err := sshca.ParseBundle(p.Configuration.FrontCAs); err != nil && len(p.Configuration.FrontCAs) > 0 { // or the broker would write more than keys into known_hosts
		return fmt.Errorf("the broker's front CAs: %w", err)
	}
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := a.writeFile(pinnedFile, append(data, '\n'), 0o600); err != nil {
		return err
	}
	path, err := a.path("ssh", "known_hosts")
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return a.writeFile("ssh/known_hosts", []byte(knownHosts(p.Configuration)), 0o600)
}

// serveKey answers OpenSSH's agent protocol for this one key, from memory, on a socket in a folder
// that only this user enters. It ends with stop.
func serveKey(dir string, key agent.Key) (stop func(), err error) {
	ring := &agent.Keyring{Key: func(context.Context) (agent.Key, error) { return key, nil }, Unbound: true}
	l, err := net.Listen("unix", filepath.Join(dir, "agent"))
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends when the ssh client closes its side, at its exit at the latest
				defer func() { _ = conn.Close() }()
				_ = ring.Serve(conn)
			}()
		}
	}()
	return func() { _ = l.Close(); <-done }, nil
}

// sshArgs are the options that make OpenSSH use this identity, our bastion and our trust, and nothing else.
func (s *session) sshArgs(ctx context.Context, dir string, identity []string, login, host string) ([]string, error) {
	p, err := s.app.pinned()
	if err != nil {
		return nil, err
	}
	at := bastion(ctx, p.Configuration)
	addr, port, err := net.SplitHostPort(at.Address)
	if err != nil {
		return nil, errNoBastion
	}
	known := filepath.Join(dir, "known_hosts")
	if err := os.WriteFile(known, []byte(knownHosts(p.Configuration)), 0o600); err != nil {
		return nil, err
	}
	var args []string
	for _, option := range slices.Concat(identity, hostKeyChecks(),
		[]string{"UserKnownHostsFile=" + known, "HostKeyAlias=" + at.Name, "ProxyJump=none", "ControlPath=none", "ForwardAgent=no"}) {
		args = append(args, "-o", option)
	}
	return append(args, "-p", port, "-l", login+"+"+host, "--", addr), nil
}

var errNoBastion = kinded{withHint(errors.New("the broker names no bastion"), "ask whoever runs the broker to configure one"), kindConfig}

// knownHosts trusts the front CA alone.
func knownHosts(c api.Configuration) string {
	var b strings.Builder
	for _, ca := range c.FrontCAs {
		b.WriteString("@cert-authority * " + strings.TrimSpace(ca) + "\n")
	}
	return b.String()
}
