//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/crypto/ssh"
)

const stepRoute = "/1.0/ssh/sign"

// stepLoad is load for step-ca: as many clients, each with a connection that stays, each call with a new key
// and a one-time token that its client signs, as `step ssh certificate` does.
func (b *bench) stepLoad(clients, calls int) (loaded, error) {
	s, err := b.stepServer()
	if err != nil {
		return loaded{}, err
	}
	l := load{route: stepRoute}
	for i := range clients {
		c, err := s.client(fmt.Sprintf("crowd-%03d", i))
		if err != nil {
			return loaded{}, err
		}
		defer c.http.CloseIdleConnections()
		l.people = append(l.people, c)
	}
	if err := l.prepare(calls, stepKey); err != nil {
		return loaded{}, err
	}
	if err := s.check(b.ctx, l.people[0]); err != nil {
		return loaded{}, err
	}
	return l.measure(b.ctx, s.cmd.Process.Pid, s.cmd.Process.Pid)
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
	http          *http.Client
}

func (s *stepServer) client(login string) (*stepClient, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.provisioner}, new(jose.SignerOptions).WithType("JWT"))
	return &stepClient{login: login, origin: s.origin, signer: signer, http: s.web()}, err
}

// token is a one-time token (provisioner/jwk.go and sign_ssh_options.go of step-ca).
func (c *stepClient) token() (string, error) {
	now := time.Now()
	return jwt.Signed(c.signer).Claims(map[string]any{"iss": "bench", "sub": c.login, "aud": c.origin + stepRoute, "jti": rand.Text(),
		"nbf": now.Unix(), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"step": map[string]any{"ssh": map[string]any{"certType": "user", "keyID": c.login, "principals": []string{c.login}}}}).Serialize()
}

// post asks for a certificate of the key that body is.
func (c *stepClient) post(ctx context.Context, route string, body []byte) ([]byte, error) {
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(map[string]any{"publicKey": body, "ott": token, "certType": "user", "keyID": c.login, "principals": []string{c.login}})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.origin+route, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil {
		err = alike(resp)
	}
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return answer, err
}

// check holds that what is measured are certificates under the CA's key.
func (s *stepServer) check(ctx context.Context, c caller) error {
	wire, err := stepKey()
	if err != nil {
		return err
	}
	raw, err := c.post(ctx, stepRoute, wire)
	if err != nil {
		return err
	}
	var answer struct {
		Certificate []byte `json:"crt"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return err
	}
	key, err := ssh.ParsePublicKey(answer.Certificate)
	if err != nil {
		return err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok || !bytes.Equal(cert.Key.Marshal(), wire) || !bytes.Equal(cert.SignatureKey.Marshal(), s.userCA.Marshal()) {
		return fmt.Errorf("it answers with %s", key.Type())
	}
	return nil
}
