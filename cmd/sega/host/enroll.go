//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/keychain/secret"
	"sega/sshca"
)

// Enrolment is what `sega host enroll` was told.
type Enrolment struct {
	Config
	Token     secret.Secret // of one use; empty where the host is enrolled already
	Document  []byte        // of its cloud's instance, in place of a token
	Replace   bool          // take over from another user CA that sshd trusts
	UserAgent string
	Out       io.Writer // talk
}

// Complete fills in what was not said and checks the rest. Nothing is written.
func (e *Enrolment) Complete(ctx context.Context, dir string) error {
	e.dir = dir
	for _, p := range []struct{ what, path string }{{"--dir", dir}, {"--sshd", e.SSHD}, {"--sshd-config", e.SSHDConfig}, {"--snippet", e.Snippet}, {"--socket", e.Socket}, {"sega", e.Sega}} {
		if err := plainPath(p.what, p.path); err != nil {
			return err
		}
	}
	if e.By != ByCommand && e.By != ByFile {
		return fmt.Errorf("--principals is %s or %s", ByCommand, ByFile)
	}
	if err := sshca.CheckHostName(e.Name); err != nil {
		return fmt.Errorf("--name: %w", err)
	}
	if err := e.runnable(); err != nil {
		return err
	}
	was, err := e.effective(ctx)
	if err != nil {
		return fmt.Errorf("sshd does not take its configuration as it is: %w", err)
	}
	if err := e.chooseKey(was); err != nil {
		return err
	}
	return e.unclaimed(was)
}

// chooseKey takes the first of sshd's host keys that a certificate can be for, Ed25519 before others.
func (e *Enrolment) chooseKey(was effective) error {
	keys := slices.Clone(was["hostkey"])
	sort.SliceStable(keys, func(i, j int) bool { return rank(keys[i]) < rank(keys[j]) })
	for _, path := range keys {
		if _, err := readPublicKey(path + ".pub"); err != nil || plainPath("host key", path) != nil {
			continue
		}
		e.HostKey, e.Certificate = path+".pub", path+"-cert.pub"
		return nil
	}
	return fmt.Errorf("sshd has no host key that a certificate can be for: it has %q\nrun: ssh-keygen -A", was["hostkey"])
}

func rank(path string) int {
	for i, kind := range []string{"ed25519", "ecdsa"} {
		if strings.Contains(filepath.Base(path), kind) {
			return i
		}
	}
	return 2
}

func readPublicKey(path string) (ssh.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return sshca.ParseKey(string(data))
}

// unclaimed refuses to take the place of what somebody else has set up: whoever logs in by it would be out.
func (e *Enrolment) unclaimed(was effective) error {
	if e.Replace {
		return nil
	}
	for keyword, ours := range map[string]string{"trustedusercakeys": e.file(hopCAsName), "authorizedprincipalscommand": e.call("check") + " -- %u %s %F %i", "authorizedkeyscommand": e.call("keys") + " -- %u"} {
		if e.PlainKeys != (keyword == "authorizedkeyscommand") {
			continue
		}
		if v := was[keyword]; len(v) > 0 && v[0] != "none" && v[0] != ours {
			return fmt.Errorf("sshd has %s %q already, and logins that go by it would end\nrepeat with --replace where that is meant", keyword, v[0])
		}
	}
	return nil
}

// Plan says what an enrolment would write, and runs nothing but sshd's own check.
func (e *Enrolment) Plan() string {
	var b strings.Builder
	fmt.Fprintf(&b, "enrol at %s as host %q, with a key of this host's own in %s\n", e.Broker, e.Name, e.file(keyName))
	if !e.PlainKeys {
		fmt.Fprintf(&b, "write a certificate of the host CA for %s to %s\n", e.HostKey, e.Certificate)
		fmt.Fprintf(&b, "write the broker's hop CAs to %s\n", e.file(hopCAsName))
	}
	fmt.Fprintf(&b, "write %s:\n", e.Snippet)
	for line := range strings.Lines(string(e.snippet())) {
		b.WriteString("    " + line)
	}
	if e.Unit != "" {
		fmt.Fprintf(&b, "write %s, and start the service:\n", e.Unit)
		for line := range strings.Lines(string(e.unit())) {
			b.WriteString("    " + line)
		}
	}
	fmt.Fprintf(&b, "run %s -t, and have sshd read its configuration anew only if it is good\n", e.SSHD)
	return b.String()
}

// Run enrols the host, or brings one that is enrolled up to date. What was written is taken back where sshd
// does not take it.
func (e *Enrolment) Run(ctx context.Context) error {
	if err := os.MkdirAll(e.dir, 0o755); err != nil {
		return err
	}
	if err := e.keepCA(); err != nil {
		return err
	}
	key, err := ensureKey(e.file(keyName))
	if err != nil {
		return err
	}
	m, err := newMachine(e.Config, key, e.UserAgent)
	if err != nil {
		return err
	}
	defer m.client.Close()
	if err := e.join(ctx, m); err != nil {
		return err
	}
	c, err := fetchBundle(ctx, m, e.Config, cached{})
	if err != nil {
		return err
	}
	return e.install(ctx, m, c)
}

// keepCA keeps the trust in the broker's certificate with the rest: the file that was named may go.
func (e *Enrolment) keepCA() error {
	if e.CAFile == "" || e.CAFile == e.file(caName) {
		return nil
	}
	data, err := os.ReadFile(e.CAFile)
	if err != nil {
		return err
	}
	e.CAFile = e.file(caName)
	return writeFile(e.CAFile, data, 0o644)
}

// join spends the token, unless the broker knows the key already.
func (e *Enrolment) join(ctx context.Context, m *machine) error {
	err := m.open(ctx, secret.Secret{})
	if err == nil {
		fmt.Fprintf(e.Out, "this host's key is enrolled already\n")
		return nil
	}
	if !api.IsKind(err, api.KindUnauthenticated) {
		return err
	}
	if e.Token.Empty() && len(e.Document) == 0 {
		return errors.New("this host is not enrolled, and no join token was given\nsomebody who may enrol hosts runs: sega hosts token " + e.Name)
	}
	key, err := readPublicKey(e.HostKey)
	if err != nil {
		return err
	}
	v, err := m.client.EnrollHost(ctx, api.HostEnrollRequest{Name: e.Name, Token: e.Token, Document: e.Document, HostKeys: []string{sshca.MarshalLine(key)}})
	if err != nil {
		return err
	}
	if v.PlainKeys != e.PlainKeys {
		return fmt.Errorf("the host is enrolled as one with certificates: %v, and sshd is to be set up otherwise\nrun: sega host enroll with --plain-keys=%v", !v.PlainKeys, v.PlainKeys)
	}
	fmt.Fprintf(e.Out, "enrolled as %s (%s); logins: %s; labels: %s\n", v.HostID, v.Machine.ID, list(v.Logins), list(pairs(v.Labels)))
	return m.open(ctx, secret.Secret{})
}

// list is for people to read.
func list(items []string) string {
	if len(items) == 0 {
		return "none"
	}
	return strings.Join(items, ", ")
}

func pairs(labels map[string]string) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, name+"="+labels[name])
	}
	return out
}

// install writes everything that sshd reads, has sshd check it, and takes it back where it does not pass.
func (e *Enrolment) install(ctx context.Context, m *machine, c cached) error {
	if c.Bundle.PlainKeys != e.PlainKeys {
		return fmt.Errorf("the broker has this host as one that knows certificates: %v\nrun: sega host enroll with --plain-keys=%v", !c.Bundle.PlainKeys, c.Bundle.PlainKeys)
	}
	c.Bundle.Accounts = []api.HostAccount{} // the daemon makes them, and lets people in when it has
	all, err := e.filesOf(c)
	if err != nil {
		return err
	}
	if !e.PlainKeys {
		own, err := e.ownFiles(ctx, m, c)
		if err != nil {
			return err
		}
		all = append(all, own...)
	}
	// The command comes before the file that has sshd run it.
	all = append(all, change{e.file(configName), e.marshal(), 0o644}, change{e.Snippet, e.Config.snippet(), 0o644})
	if e.Unit != "" {
		all = append(all, change{e.Unit, e.unit(), 0o644})
	}
	running, err := e.change(ctx, all, true)
	if err != nil {
		return err
	}
	if !running {
		fmt.Fprintf(e.Out, "no sshd of this configuration was found to run: one that does must be told to read it anew\n")
	}
	return e.startUnit(ctx)
}

// ownFiles are the revocation list, and the host's certificate where another is due.
func (e *Enrolment) ownFiles(ctx context.Context, m *machine, c cached) (all changes, err error) {
	list, _, err := fetchKRL(ctx, m, e.krlVersion())
	switch {
	case err != nil:
		return nil, fmt.Errorf("the revocation list: %w", err)
	case list != nil:
		all = append(all, change{e.file(krlName), list, 0o644})
	default:
		if list, err = os.ReadFile(e.file(krlName)); err != nil {
			return nil, err
		}
	}
	cert, err := e.renewed(ctx, m, c, list)
	if err == nil && cert != nil {
		all = append(all, *cert)
	}
	return all, err
}

// change writes files, has sshd check its configuration, and has it read that anew. Where anything of it fails
// everything is as before, sshd too.
func (c Config) change(ctx context.Context, all changes, ours bool) (running bool, err error) {
	all = all.pending()
	undo, err := all.apply()
	if err != nil {
		return false, err
	}
	e, err := c.tested(ctx, ours)
	if err == nil && len(all) > 0 {
		if running, err = c.reload(ctx, e); err == nil {
			return running, nil
		}
	}
	if err == nil {
		return true, nil // nothing has changed
	}
	err = errors.Join(fmt.Errorf("nothing was changed: %w", err), undo())
	if errors.Is(err, errReload) {
		_, again := c.reload(context.WithoutCancel(ctx), e)
		err = errors.Join(err, again)
	}
	return false, err
}

// tested has sshd check its configuration, and looks whether it has taken ours over.
func (c Config) tested(ctx context.Context, ours bool) (effective, error) {
	if _, err := c.sshd(ctx, "-t"); err != nil {
		return nil, err
	}
	e, err := c.effective(ctx)
	if err == nil && ours {
		err = c.took(e)
	}
	return e, err
}

// Leave takes away what enrolment has written, and has sshd go on without it. Accounts of people are locked, and the list of them
// stays: whose files they hold is not forgotten.
func (c Config) Leave(ctx context.Context) error {
	c.stopUnit(ctx)
	errs := c.lockAccounts(ctx) // where one is not, the host goes all the same, and this is said
	gone := changes{{path: c.Snippet}, {path: c.Certificate}}
	if c.Unit != "" {
		gone = append(gone, change{path: c.Unit})
	}
	if _, err := c.change(ctx, gone, false); err != nil {
		return errors.Join(errs, err)
	}
	for _, name := range []string{configName, keyName, bundleName, hopCAsName, krlName, caName, reportedName} {
		if err := os.Remove(c.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = errors.Join(errs, err)
		}
	}
	return errors.Join(errs, os.RemoveAll(c.file(principalsName)))
}
