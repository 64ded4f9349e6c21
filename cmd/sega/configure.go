package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/cmd/sega/agent"
)

// sshLeft is how long the certificate of the ssh_config block must still live not to be renewed.
const sshLeft = 2 * time.Minute

func newConfigure(a *app) *cobra.Command {
	var o configureOptions
	c := &cobra.Command{Use: "configure", Short: "Write a profile of ~/.aws/config for each of your roles; an ssh_config block for your hosts", GroupID: groupAccess, Args: atMost(0),
		Example: "  sega configure --region eu-west-1 --print   # what would change\n  sega configure --prune\n  sega configure --import\n" +
			"  sega configure --ssh && ssh web-1\n  sega configure --ssh --print > sega.conf && ssh -F sega.conf web-1",
		Long: "Write a profile for each of your roles to ~/.aws/config, or to AWS_CONFIG_FILE, so that AWS's tools ask sega: aws --profile ROLE.\n" +
			"sega keeps the profiles that have a line sega_role, and in them credential_process alone; all else in the file stays as it is.\n" +
			"A line sega_duration = 4h in a profile makes it ask for that long. ~/.aws/credentials is never written.\n\n" +
			"--import takes over the profiles of aws-okta, aws-vault and saml2aws whose role is one of yours: their names and regions stay, and what sega\n" +
			"replaces becomes a comment.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if o.remove {
				return a.removeSSH(cmd.Context())
			}
			if !o.ssh {
				return withKind(kindConfig, a.configureAWS(cmd.Context(), o, func() ([]api.Role, error) { return a.allRoles(cmd.Context()) }))
			}
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			text, err := s.sshConfig(cmd.Context(), o.key)
			if err != nil {
				return err
			}
			if !o.toStdout {
				return a.configureSSH(cmd.Context(), text)
			}
			_, err = fmt.Fprint(a.out, text)
			return err
		}}
	c.Flags().BoolVar(&o.aws, "aws", false, "the profiles of ~/.aws/config (the default)")
	c.Flags().BoolVar(&o.ssh, "ssh", false, "the block of ssh_config, to ~/.ssh/sega.conf, which ~/.ssh/config then includes before everything else")
	c.Flags().BoolVar(&o.remove, "remove", false, "with --ssh, take both away again")
	o.key.flags(c)
	c.Flags().BoolVar(&o.toStdout, "print", false, "print what would change, and change no file")
	c.Flags().BoolVar(&o.prune, "prune", false, "remove the profiles that sega has made for roles that are not yours any more")
	c.Flags().BoolVar(&o.all, "all", false, "also for roles that you may not use now")
	c.Flags().StringVar(&o.region, "region", "", "region of profiles that have none")
	c.Flags().StringVar(&o.templateText, "template", "{{.Name}}", "name of a profile, by Name, Account, ARN and Description of the role")
	c.Flags().StringVar(&o.namePrefix, "prefix", "", "what every name begins with")
	c.Flags().BoolVar(&o.imports, "import", false, "take over profiles of aws-okta, aws-vault and saml2aws instead")
	c.Flags().BoolVar(&o.undo, "undo-import", false, "give them back as they were")
	return c
}

// allRoles are all roles that the broker knows of, those that are not allowed included.
func (a *app) allRoles(ctx context.Context) ([]api.Role, error) {
	s, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	v, err := s.Roles(ctx)
	return v.Roles, err
}

// check refuses flags that do not go together.
func (o configureOptions) check() error {
	switch {
	case o.ssh && (o.aws || o.imports || o.undo || o.prune || o.all || o.region != "" || o.namePrefix != ""):
		return usagef("--ssh goes with --print, --remove, --key, --key-agent and --verify alone")
	case o.remove && (o.toStdout || o.key != ownKeyOptions{}):
		return usagef("--remove goes with --ssh alone")
	case !o.ssh && (o.remove || o.key != ownKeyOptions{}):
		return usagef("--remove, --key, --key-agent and --verify go with --ssh")
	case o.imports && o.undo, (o.imports || o.undo) && (o.prune || o.all || o.region != "" || o.namePrefix != ""):
		return usagef("--import and --undo-import go with --print and --json alone")
	}
	return o.key.check()
}

// sshConfig is a block for ssh_config(5): `Match exec` renews key and certificate before they are used. It
// has no options of its own: where a renewal fails, the way through the bastion and the checks of host
// keys stay as they are.
func (s *session) sshConfig(ctx context.Context, own ownKeyOptions) (string, error) {
	p, err := s.app.pinned()
	if err != nil {
		return "", err
	}
	for _, ca := range p.Configuration.FrontCAs {
		if strings.ContainsFunc(ca, func(r rune) bool { return r < ' ' || r == '"' }) { // or the broker would write more than keys
			return "", withKind(kindConfig, withHint(fmt.Errorf("a CA of the broker's bastions is none: %s", escape(ca)), "ask whoever runs the broker to mend its configuration"))
		}
	}
	v, err := s.Hosts(ctx)
	if err != nil {
		return "", err
	}
	if err := s.app.writeFile("ssh/known_hosts", []byte(knownHosts(p.Configuration)), 0o600); err != nil {
		return "", err
	}
	dir, err := s.app.home()
	if err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	socket, err := s.app.socket()
	if err != nil {
		return "", err
	}
	if err := commandable(dir, self, socket); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# sega: hosts of %s\n# made by: sega configure --ssh\n", s.saved().Origin)
	keys, renew := agent.SSHSocket(socket), renewCommand(dir, self)
	if s.app.agentless() {
		keys, renew = "none", renew+" --no-agent"
	}
	identity := freshIdentity(dir, keys)
	if own.file != "" {
		lines, of, err := s.ownConfig(ctx, dir, own)
		if err != nil {
			return "", err
		}
		identity, renew = lines, renew+of
	}
	common := sshCommon(dir, identity)
	choose, last, err := sshBastions(bastions(p.Configuration), quoteInConf(self))
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "%sMatch originalhost sega-bastion exec \"%s\"\nMatch originalhost sega-bastion\n%s    User sega\n%s", choose, renew, last, common)
	for _, h := range v.Hosts {
		if !h.Allowed || !plainName(h.Name) {
			continue
		}
		b.WriteString(hostEntry(h, renew, common))
	}
	b.WriteString("Match all\n")
	return b.String(), nil
}

// hostEntry leads a host's name to the bastions, whatever else the person's files have for it: bastions know hosts by their names, and no
// port but that of ssh. Its renewal is quiet: ssh runs another ssh to the bastion, whose lines renew again and say what is refused.
func hostEntry(h api.Host, renew, common string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Match originalhost %[1]s exec \"%[2]s --quiet\"\nMatch originalhost %[1]s\n    HostName %[1]s\n    Port 22\n    ProxyJump sega-bastion\n    HostKeyAlias %[1]s\n", h.Name, renew)
	if len(h.Logins) == 1 && plainName(h.Logins[0]) {
		fmt.Fprintf(&b, "    User %s\n", h.Logins[0])
	}
	b.WriteString(common)
	return b.String()
}

// nameable refuses paths that ssh_config(5) has no way to write. In its double quotes a backslash before a quote or another
// backslash goes (argv_split in OpenSSH's misc.c).
func nameable(paths ...string) error {
	return without(paths, []string{`"`, "\r", "\n", "${", `\\`, `\'`})
}

// commandable refuses what nameable does, and what there is no one way to write in the command of `Match exec`: OpenSSH 9.9
// takes the backslashes out there, too, that an apostrophe needs for the shell, and those before it do not.
func commandable(paths ...string) error {
	if err := nameable(paths...); err != nil {
		return err
	}
	return without(paths, []string{"'"})
}

func without(paths, parts []string) error {
	for _, p := range paths {
		for _, part := range parts {
			if strings.Contains(p, part) || strings.HasSuffix(p, `\`) { // the last one would meet a quote
				return withKind(kindConfig, withHint(fmt.Errorf("ssh_config cannot name %q: it holds %q, or ends with a backslash", p, part), "move it, or set SEGA_HOME to another folder"))
			}
		}
	}
	return nil
}

// renewCommand is run by ssh through the shell, inside double quotes of ssh_config, where % starts a
// token; its paths are commandable.
func renewCommand(dir, self string) string {
	return "SEGA_HOME=" + quoteInConf(dir) + " " + quoteInConf(self) + " ssh --renew"
}

func quoteInConf(commandable string) string {
	return "'" + strings.ReplaceAll(commandable, "%", "%%") + "'"
}

// freshIdentity is for key and certificate in the agent, and for files where there is none.
func freshIdentity(dir, socket string) []string {
	return []string{"IdentityAgent " + confQuote(socket), "IdentityFile " + confQuote(filepath.Join(dir, "ssh", "id")),
		"CertificateFile " + confQuote(filepath.Join(dir, "ssh", "id-cert.pub")), "IdentitiesOnly no"}
}

// hostKeyTypes are certificates alone: the CA of bastions and masks is all that the block trusts.
const hostKeyTypes = "ssh-ed25519-cert-v01@openssh.com,ecdsa-sha2-nistp256-cert-v01@openssh.com,ecdsa-sha2-nistp384-cert-v01@openssh.com," +
	"ecdsa-sha2-nistp521-cert-v01@openssh.com,rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com"

// hostKeyChecks are all options that could soften the check of a host's key. ssh takes the first value that it
// reads: another one behind the block, in the person's own or in the system's file, has no effect.
func hostKeyChecks() []string {
	return []string{"GlobalKnownHostsFile /dev/null", "StrictHostKeyChecking yes", "HostKeyAlgorithms " + hostKeyTypes, "VerifyHostKeyDNS no",
		"UpdateHostKeys no", "CheckHostIP no", "NoHostAuthenticationForLocalhost no", "CanonicalizeHostname no", "PreferredAuthentications publickey"}
}

// sshCommon is what all entries have: which key, and whom to trust.
func sshCommon(dir string, identity []string) string {
	var b strings.Builder
	for _, line := range slices.Concat(identity, []string{"UserKnownHostsFile " + confQuote(filepath.Join(dir, "ssh", "known_hosts"))}, hostKeyChecks()) {
		b.WriteString("    " + line + "\n")
	}
	return b.String()
}

func confQuote(path string) string { return `"` + strings.ReplaceAll(path, "%", "%%") + `"` }

// renewSSH keeps key and certificate of the ssh_config block fresh: in the agent's memory, or in a file
// where there is none. The key is made anew with each certificate, and is worth as long.
func (a *app) renewSSH(ctx context.Context, o sshOptions) error {
	if o.key.file != "" {
		return a.renewOwn(ctx, o)
	}
	q, err := a.question(agent.OpSSH, nil)
	if err != nil {
		return err
	}
	q.Reason, q.Ticket = o.reason, o.ticket
	p, err := a.pinned()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if reply, err := a.askAgent(ctx, q); err == nil {
		return a.learnFront(ctx, p.Configuration.Origin, reply.FrontCAs)
	} else if !errors.Is(err, errNoAgent) {
		return err
	}
	return a.renewSSHFiles(ctx, o)
}

func (a *app) renewSSHFiles(ctx context.Context, o sshOptions) error {
	certFile, err := a.path("ssh", "id-cert.pub")
	if err != nil {
		return err
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	if fresh(certFile, a.now()) {
		return nil
	}
	// One process at a time: key and certificate of two of them fit no lock. Not under the lock of the stored
	// secrets, which a renewal of the session takes in between.
	done, err := a.turn(ctx, "ssh")
	if err != nil {
		return err
	}
	defer done()
	if fresh(certFile, a.now()) {
		return nil // another was faster
	}
	return s.replaceSSH(ctx, certFile, o)
}

// replaceSSH makes a key and has it certified.
func (s *session) replaceSSH(ctx context.Context, certFile string, o sshOptions) error {
	key, err := agent.NewKey(ctx, func(ctx context.Context, public ssh.PublicKey) (*ssh.Certificate, error) {
		return s.certify(ctx, public, o, nil)
	})
	if err != nil {
		return err
	}
	cert := key.Certificate
	block, err := ssh.MarshalPrivateKey(key.Private, "sega")
	if err != nil {
		return err
	}
	// The certificate goes first and away: a key without its certificate is refused at worst.
	if err := os.Remove(certFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	a := s.app
	if err := a.writeFile("ssh/id", pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	if err := a.writeFile("ssh/id.pub", ssh.MarshalAuthorizedKey(cert.Key), 0o600); err != nil {
		return err
	}
	return a.writeFile("ssh/id-cert.pub", ssh.MarshalAuthorizedKey(cert), 0o600)
}

// fresh reports whether the certificate in a file lives long enough to be used, and is of the key
// beside it.
func fresh(path string, now time.Time) bool {
	beside, err := os.ReadFile(filepath.Join(filepath.Dir(path), "id.pub"))
	if err != nil {
		return false
	}
	return freshOf(path, beside, now) != nil
}

// freshOf returns the certificate in a file where it is of a key and lives long enough to be used; else nil.
func freshOf(path string, key []byte, now time.Time) *ssh.Certificate {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	parsed, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil
	}
	cert, ok := parsed.(*ssh.Certificate)
	if !ok || !bytes.Equal(ssh.MarshalAuthorizedKey(cert.Key), key) || time.Unix(int64(cert.ValidBefore), 0).Sub(now) <= sshLeft {
		return nil
	}
	return cert
}

// dropSSH removes the key and certificate of the ssh_config block, and certificates of the person's own keys.
func (a *app) dropSSH() error {
	dir, err := a.path("ssh")
	if err != nil {
		return err
	}
	names := []string{"id", "id.pub", "id-cert.pub"}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ownCertPrefix) {
			names = append(names, e.Name())
		}
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func labels(m map[string]string) string {
	var out []string
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	return strings.Join(sorted(out), " ")
}
