package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

// maxKeyFile bounds a key file, in bytes.
const maxKeyFile = 1 << 20

// ownKeyOptions say which key of a person's own is meant. sega itself never reads a private half: OpenSSH's
// programs do, which know passphrases, agents and FIDO2 tokens.
type ownKeyOptions struct {
	file   string // private, or public with the private half in an SSH agent
	agent  string // socket of that agent; "": SSH_AUTH_SOCK
	verify bool   // have a FIDO2 key verify its user for the certificate
}

func (o *ownKeyOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.file, "key", "", "a key file of your own, private, or public with its private half in an SSH agent, in place of a fresh key")
	c.Flags().StringVar(&o.agent, "key-agent", "", "socket of that agent, in place of SSH_AUTH_SOCK")
	c.Flags().BoolVar(&o.verify, "verify", false, "have the FIDO2 key of --key verify you, by PIN or fingerprint, where policy asks for it")
}

func (o ownKeyOptions) check() error {
	if o.file == "" && (o.agent != "" || o.verify) {
		return usagef("--key-agent and --verify go with --key FILE")
	}
	return nil
}

// ownKey is a key of the person's own.
type ownKey struct {
	path   string // absolute, of the file that ssh is to use
	public ssh.PublicKey
	agent  string
}

// ownKey finds the public half of a key.
func (a *app) ownKey(ctx context.Context, o ownKeyOptions) (ownKey, error) {
	path, err := filepath.Abs(o.file)
	if err != nil {
		return ownKey{}, err
	}
	text, err := readKeyFile(path)
	if err != nil {
		return ownKey{}, err
	}
	if private := strings.TrimSuffix(path, ".pub"); private != path {
		if _, err := os.Stat(private); err == nil { // ssh takes the file that it is given for the private half, where no agent has the key
			path = private
		}
	}
	k := ownKey{path: path, agent: o.agent}
	if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		if text, err = readKeyFile(path + ".pub"); errors.Is(err, os.ErrNotExist) {
			text, err = a.keygen(ctx, k, "-y", "-f", path)
		}
		if err != nil {
			return ownKey{}, err
		}
	}
	if k.public, err = sshca.ParseKey(strings.TrimSpace(string(text))); err != nil {
		return ownKey{}, withHint(fmt.Errorf("%s is no key that can be used: %w", path, err), "make one: ssh-keygen -t ed25519, or with a FIDO2 token: ssh-keygen -t ed25519-sk")
	}
	return k, nil
}

func readKeyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxKeyFile {
		err = fmt.Errorf("%s is too large for a key", path)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// keygen runs ssh-keygen on the person's terminal, which asks there for what it needs.
func (a *app) keygen(ctx context.Context, k ownKey, args ...string) ([]byte, error) {
	path, err := exec.LookPath("ssh-keygen")
	if err != nil {
		return nil, withKind(kindProgram, withHint(errors.New("there is no ssh-keygen on this machine"), "install the OpenSSH client"))
	}
	c := exec.CommandContext(ctx, path, args...)
	if c.Env = os.Environ(); k.agent != "" {
		c.Env = append(c.Env, "SSH_AUTH_SOCK="+k.agent)
	}
	var out bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, &out, os.Stderr
	if err := c.Run(); err != nil {
		return nil, withHint(fmt.Errorf("ssh-keygen could not use %s: %w", k.path, err), "see that the file is the key's, or that an SSH agent holds it: ssh-add -l")
	}
	return out.Bytes(), nil
}

// prove has the key sign that it is at hand, for this login and purpose.
func (s *session) prove(ctx context.Context, k ownKey, purpose string) (api.KeyProof, error) {
	nonce, err := s.Nonce(ctx)
	if err != nil {
		return api.KeyProof{}, err
	}
	dir, err := os.MkdirTemp("", "sega-key-")
	if err != nil {
		return api.KeyProof{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	message := filepath.Join(dir, "message")
	text := api.ProofText(purpose, s.Origin(), s.saved().Session.LoginID, ssh.FingerprintSHA256(k.public), nonce)
	if err := os.WriteFile(message, text, 0o600); err != nil {
		return api.KeyProof{}, err
	}
	if _, err := s.app.keygen(ctx, k, "-q", "-Y", "sign", "-f", k.path, "-n", api.ProofNamespace, message); err != nil {
		return api.KeyProof{}, err
	}
	signature, err := os.ReadFile(message + ".sig")
	return api.KeyProof{Nonce: nonce, Signature: string(signature)}, err
}

// certifyOwn asks for an access certificate for a key of the person's own.
func (s *session) certifyOwn(ctx context.Context, k ownKey, o sshOptions) (*ssh.Certificate, error) {
	var proof *api.KeyProof
	if o.key.verify {
		p, err := s.prove(ctx, k, api.ProofVerify)
		if err != nil {
			return nil, err
		}
		proof = &p
	}
	cert, err := s.certify(ctx, k.public, o, proof)
	if err == nil && !bytes.Equal(cert.Key.Marshal(), k.public.Marshal()) {
		err = errors.New("the broker's certificate is of another key")
	}
	return cert, err
}

// ownKeyArgs are the options that make OpenSSH use this key with a certificate in dir, and no other: of agents
// it asks none but that which holds it.
func (s *session) ownKeyArgs(ctx context.Context, dir string, o sshOptions) ([]string, error) {
	k, err := s.app.ownKey(ctx, o.key)
	if err != nil {
		return nil, err
	}
	cert, err := s.certifyOwn(ctx, k, o)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "own-cert.pub")
	if err := os.WriteFile(path, ssh.MarshalAuthorizedKey(cert), 0o600); err != nil {
		return nil, err
	}
	if err := nameable(k.path, k.agent); err != nil {
		return nil, err
	}
	options := []string{"IdentityFile=" + confQuote(k.path), "CertificateFile=" + confQuote(path), "IdentitiesOnly=yes"}
	if k.agent != "" {
		options = append(options, "IdentityAgent="+confQuote(k.agent))
	}
	return options, nil
}

func hasVerified(cert *ssh.Certificate) bool {
	_, ok := cert.CriticalOptions["verify-required"]
	return ok
}

const ownCertPrefix = "own-"

// ownCert names the file of the certificate that the block of sega configure --ssh --key uses.
func ownCert(k ownKey) string {
	sum := sha256.Sum256(k.public.Marshal())
	return ownCertPrefix + hex.EncodeToString(sum[:8]) + "-cert.pub"
}

// renewOwn keeps that certificate fresh.
func (a *app) renewOwn(ctx context.Context, o sshOptions) error {
	k, err := a.ownKey(ctx, o.key)
	if err != nil {
		return err
	}
	path, err := a.path("ssh", ownCert(k))
	if err != nil {
		return err
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	still := func() bool {
		cert := freshOf(path, ssh.MarshalAuthorizedKey(k.public), a.now())
		return cert != nil && (!o.key.verify || hasVerified(cert))
	}
	if still() {
		return nil
	}
	done, err := a.turn(ctx, "ssh")
	if err != nil {
		return err
	}
	defer done()
	if still() {
		return nil // another was faster
	}
	cert, err := s.certifyOwn(ctx, k, o)
	if err != nil {
		return err
	}
	return a.writeFile("ssh/"+ownCert(k), ssh.MarshalAuthorizedKey(cert), 0o600)
}

// ownConfig is the part of the ssh_config block that names a key of the person's own, and the end of the
// command that renews its certificate.
func (s *session) ownConfig(ctx context.Context, dir string, o ownKeyOptions) (lines []string, renew string, err error) {
	k, err := s.app.ownKey(ctx, o)
	if err != nil {
		return nil, "", err
	}
	if err := commandable(k.path, k.agent); err != nil {
		return nil, "", err
	}
	lines = []string{"IdentityFile " + confQuote(k.path), "CertificateFile " + confQuote(filepath.Join(dir, "ssh", ownCert(k))), "IdentitiesOnly yes"}
	renew = " --key " + quoteInConf(k.path)
	if k.agent != "" {
		lines, renew = append(lines, "IdentityAgent "+confQuote(k.agent)), renew+" --key-agent "+quoteInConf(k.agent)
	}
	if o.verify {
		renew += " --verify"
	}
	return lines, renew, nil
}
