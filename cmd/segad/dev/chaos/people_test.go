//go:build linux

package chaos

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/client"
	"sega/cmd/segad/dev/browser"
	"sega/idp"
	"sega/keychain/secret"
	"sega/sshca"
)

// callTime bounds one request of a client.
const callTime = 15 * time.Second

// member is somebody who is logged in, person or machine, as a client of the broker in this process.
type member struct {
	*client.Client
	name string

	mu    sync.Mutex
	token secret.Secret
}

func (m *member) current() secret.Secret {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.token
}

func (m *member) setToken(v secret.Secret) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.token = v
}

// newMember makes a client with a key of its own. marks, where it is not nil, is shown every
// checkpoint that an answer carries.
func (r *rig) newMember(name string, marks *marks) (*member, dpop.Key) {
	r.t.Helper()
	key, err := dpop.GenerateKey()
	if err != nil {
		r.t.Fatal(err)
	}
	m := &member{name: name}
	cfg := client.Config{Origin: r.file.Origin, RootCAs: r.roots(), Key: key, Token: m.current, UserAgent: "chaos", Timeout: callTime}
	if marks != nil {
		cfg.OnCheckpoint = marks.see
	}
	if m.Client, err = client.New(cfg); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(m.Close)
	return m, key
}

// login logs a person in through the provider's real pages and returns the client and the session's ID.
func (r *rig) login(email string, marks *marks) (*member, string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	m, key := r.newMember(email, marks)
	conf, err := m.Configuration(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	random := make([]byte, 32)
	rand.Read(random)
	provider, err := idp.Discover(ctx, conf.Issuer, http.DefaultClient)
	if err != nil {
		r.t.Fatal(err)
	}
	flow := idp.Login{ClientID: conf.ClientID, Scopes: conf.Scopes, Ports: conf.RedirectPorts, Path: conf.RedirectPath,
		Nonce: idp.Nonce(key.Thumbprint(), conf.Origin, random)}
	tokens, err := provider.Browser(ctx, flow, func(address string) error { return browser.Visit(ctx, address, r.credentials(email)) })
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := m.Login(ctx, api.LoginRequest{IDToken: tokens.IDToken, AccessToken: tokens.AccessToken,
		Random: base64.RawURLEncoding.EncodeToString(random), Method: api.MethodBrowser, Client: "chaos"})
	if err != nil {
		r.t.Fatal(err)
	}
	m.setToken(s.Token)
	return m, s.LoginID
}

func (r *rig) credentials(email string) browser.Credentials {
	r.t.Helper()
	for _, u := range r.Users {
		if u.Email == email {
			return browser.Credentials{Email: u.Email, Password: u.Password, TOTPSecret: u.TOTPSecret}
		}
	}
	r.t.Fatalf("nobody is called %s", email)
	return browser.Credentials{}
}

// machine enrols this test as a bastion.
func (r *rig) machine(name string, marks *marks) *member {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	m, _ := r.newMember(name, marks)
	if _, err := m.Enroll(ctx, api.EnrollRequest{Token: secret.FromString("sega_join_chaos_" + name), Name: name, Kind: "bastion"}); err != nil {
		r.t.Fatal(err)
	}
	s, err := m.MachineSession(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	m.setToken(s.Token)
	return m
}

// identity is an SSH key with its access certificate.
type identity struct {
	signer ssh.Signer
	cert   *ssh.Certificate
	plain  ssh.Signer // of the key alone
}

// certify asks for an access certificate for a fresh key.
func (m *member) certify(ctx context.Context) (identity, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return identity{}, err
	}
	plain, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return identity{}, err
	}
	answer, err := m.Certificate(ctx, api.CertificateRequest{PublicKey: sshca.MarshalLine(plain.PublicKey())})
	if err != nil {
		return identity{}, err
	}
	cert, err := parseCert(answer.Certificate)
	if err != nil {
		return identity{}, err
	}
	signer, err := ssh.NewCertSigner(cert, plain)
	return identity{signer, cert, plain}, err
}

func parseCert(line string) (*ssh.Certificate, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, errNoCert
	}
	return cert, nil
}

// mustCertify is certify where nothing is in the way.
func mustCertify(t testing.TB, m *member) identity {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	id, err := m.certify(ctx)
	if err != nil {
		t.Fatalf("certificate: %v", err)
	}
	return id
}
