//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/crypto/ssh"
	"golang.org/x/net/http2/hpack"
)

const stepRoute = "/1.0/ssh/sign"

// stepLoad is load for step-ca: as many clients, each with a connection that stays, each call with a new key
// and a one-time token that its client signs, as `step ssh certificate` does.
func (b *bench) stepLoad(clients, calls int) (loaded, error) {
	s, err := b.stepServer()
	if err != nil {
		return loaded{}, err
	}
	l := load{origin: s.origin, route: stepRoute, good: s.certified}
	for i := range clients {
		c, err := s.client(fmt.Sprintf("crowd-%03d", i))
		if err != nil {
			return loaded{}, err
		}
		l.people = append(l.people, c)
	}
	return l.run(b.ctx, calls, stepKey, s.cmd.Process.Pid, s.cmd.Process.Pid)
}

// stepKey makes the wire form of a new key.
func stepKey() ([]byte, error) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	return key.Marshal(), nil
}

// stepClient asks for certificates of one login.
type stepClient struct {
	login, origin string
	signer        jose.Signer
	roots         *x509.CertPool
}

func (s *stepServer) client(login string) (*stepClient, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.provisioner}, new(jose.SignerOptions).WithType("JWT"))
	return &stepClient{login: login, origin: s.origin, signer: signer, roots: s.roots}, err
}

// token is a one-time token (provisioner/jwk.go and sign_ssh_options.go of step-ca).
func (c *stepClient) token() (string, error) {
	now := time.Now()
	return jwt.Signed(c.signer).Claims(map[string]any{"iss": "bench", "sub": c.login, "aud": c.origin + stepRoute, "jti": rand.Text(),
		"nbf": now.Unix(), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"step": map[string]any{"ssh": map[string]any{"certType": "user", "keyID": c.login, "principals": []string{c.login}}}}).Serialize()
}

// message implements caller: it asks for a certificate of the key that body is.
func (c *stepClient) message(_ context.Context, _ string, body []byte) (message, error) {
	token, err := c.token()
	if err != nil {
		return message{}, err
	}
	raw, err := json.Marshal(map[string]any{"publicKey": body, "ott": token, "certType": "user", "keyID": c.login, "principals": []string{c.login}})
	return message{body: raw, fields: []hpack.HeaderField{{Name: "content-type", Value: "application/json"}}}, err
}

// connect implements caller.
func (c *stepClient) connect(ctx context.Context) (*wire, error) {
	return dialWire(ctx, c.origin, c.roots, net.IPv4(127, 0, 0, 1))
}

// certified holds that what is measured are certificates under the CA's key.
func (s *stepServer) certified(asked, answered []byte) error {
	var answer struct {
		Certificate []byte `json:"crt"`
	}
	if err := json.Unmarshal(answered, &answer); err != nil {
		return err
	}
	key, err := ssh.ParsePublicKey(asked)
	if err != nil {
		return err
	}
	shown, err := ssh.ParsePublicKey(answer.Certificate)
	if err != nil {
		return err
	}
	cert, ok := shown.(*ssh.Certificate)
	if !ok || !bytes.Equal(cert.SignatureKey.Marshal(), s.userCA.Marshal()) {
		return fmt.Errorf("step-ca answers with %s", shown.Type())
	}
	return certifies(cert, key)
}
