//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/errgroup"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/client"
	"sega/cmd/segad/dev"
	"sega/cmd/segad/dev/browser"
	"sega/idp"
	"sega/keychain/secret"
)

// logins is how many people log in at a time.
const logins = 4

// person is somebody who has logged in, and speaks to the broker as sega does: HTTP/2 on a
// connection that stays, a DPoP proof for each request.
type person struct {
	*client.Client // for what is not a load

	email  string
	origin string
	key    dpop.Key
	token  secret.Secret
	roots  *x509.CertPool
	from   net.IP
	http   *http.Client
	nonce  string
}

// login logs people in through the provider's pages. Each has an address of her own, since the
// broker limits what one address may ask for.
func (b *bench) login(e *environment, people []dev.Person) ([]*person, error) {
	out := make([]*person, len(people))
	g, ctx := errgroup.WithContext(b.ctx)
	g.SetLimit(logins)
	for i, p := range people {
		g.Go(func() (err error) {
			out[i], err = e.login(ctx, p, net.IPv4(127, 0, 1, byte(1+i)))
			if err != nil {
				return fmt.Errorf("login of %s: %w", p.Email, err)
			}
			return nil
		})
	}
	return out, g.Wait()
}

func (e *environment) login(ctx context.Context, who dev.Person, from net.IP) (*person, error) {
	roots, err := e.roots()
	if err != nil {
		return nil, err
	}
	key, err := dpop.GenerateKey()
	if err != nil {
		return nil, err
	}
	p := &person{email: who.Email, origin: e.Broker, key: key, roots: roots, from: from}
	if p.Client, err = client.New(client.Config{Origin: e.Broker, RootCAs: roots, Key: key, Token: func() secret.Secret { return p.token }, UserAgent: "sega/bench"}); err != nil {
		return nil, err
	}
	config, err := p.Configuration(ctx)
	if err != nil {
		return nil, err
	}
	random := make([]byte, 32)
	rand.Read(random)
	tokens, err := idToken(ctx, config, who, idp.Nonce(key.Thumbprint(), config.Origin, random))
	if err != nil {
		return nil, err
	}
	session, err := p.Login(ctx, api.LoginRequest{IDToken: tokens.IDToken, AccessToken: tokens.AccessToken,
		Random: base64.RawURLEncoding.EncodeToString(random), Method: api.MethodPaste, Client: "sega/bench"})
	if err != nil {
		return nil, err
	}
	p.token = session.Token
	p.http = web(roots, from)
	return p, nil
}

// web is a client with connections of its own, from an address.
func web(roots *x509.CertPool, from net.IP) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: from}}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}}
}

// newcomers logs in people whom nobody has used yet.
func (b *bench) newcomers(e *environment, n int) ([]*person, error) {
	drawn, err := e.draw(n)
	if err != nil {
		return nil, err
	}
	return b.login(e, drawn)
}

// idToken follows the provider's forms as the person, with password and second factor.
func idToken(ctx context.Context, c api.Configuration, who dev.Person, nonce string) (idp.Tokens, error) {
	provider, err := idp.Discover(ctx, c.Issuer, &http.Client{Timeout: 10 * time.Second})
	if err != nil {
		return idp.Tokens{}, err
	}
	var page string
	flow := idp.Login{ClientID: c.ClientID, Scopes: c.Scopes, Ports: c.RedirectPorts, Path: c.RedirectPath, Nonce: nonce}
	return provider.Paste(ctx, flow, func(url string) error { page = url; return nil }, func(ctx context.Context) (string, error) {
		callback := fmt.Sprintf("http://127.0.0.1:%d%s", c.RedirectPorts[0], c.RedirectPath)
		return new(browser.Browser).Address(ctx, page, browser.Credentials{Email: who.Email, Password: who.Password, TOTPSecret: who.TOTPSecret}, callback)
	})
}

func (e *environment) roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(e.Env["SEGA_CA_FILE"])
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", e.Env["SEGA_CA_FILE"])
	}
	return pool, nil
}

// post makes one call, and the second one that a new nonce asks for. Only one post of a person may
// run at a time.
func (p *person) post(ctx context.Context, route string, body []byte) ([]byte, error) {
	for range 2 {
		resp, err := p.send(ctx, route, body)
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err := errors.Join(err, alike(resp)); err != nil {
			return nil, err
		}
		p.nonce = resp.Header.Get(api.HeaderNonce)
		if resp.StatusCode == http.StatusOK {
			return raw, nil
		}
		var problem api.Problem
		if err := json.Unmarshal(raw, &problem); err != nil {
			return nil, fmt.Errorf("%s answers %s: %q", route, resp.Status, raw)
		}
		if problem.Kind != api.KindNonce {
			return nil, &problem
		}
	}
	return nil, fmt.Errorf("%s refuses its own nonce", route)
}

func (p *person) send(ctx context.Context, route string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.origin+route, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	m, err := p.prove(route, body)
	if err != nil {
		return nil, err
	}
	for _, f := range m.fields {
		req.Header.Set(f.Name, f.Value)
	}
	return p.http.Do(req)
}

// prove makes a request with its proof, by the nonce of the last answer.
func (p *person) prove(route string, body []byte) (message, error) {
	proof, err := p.key.Proof(http.MethodPost, p.origin+route, p.token, p.nonce)
	return message{body: body, fields: []hpack.HeaderField{
		{Name: "content-type", Value: "application/json"}, {Name: "accept", Value: "application/json, application/problem+json"},
		{Name: "authorization", Value: "DPoP " + string(p.token.Reveal())}, {Name: strings.ToLower(api.HeaderProof), Value: proof}}}, err
}

// message implements caller. The first one makes a call of its own, by which it learns a nonce: that is good for all that are
// sent within two minutes.
func (p *person) message(ctx context.Context, route string, body []byte) (message, error) {
	if p.nonce == "" {
		if _, err := p.post(ctx, route, body); err != nil {
			return message{}, err
		}
	}
	return p.prove(route, body)
}

// connect implements caller.
func (p *person) connect(ctx context.Context) (*wire, error) {
	return dialWire(ctx, p.origin, p.roots, p.from)
}

// alike holds that an answer came over what all servers are compared on.
func alike(resp *http.Response) error {
	if resp.ProtoMajor != 2 || resp.TLS == nil || resp.TLS.Version != tls.VersionTLS13 {
		return fmt.Errorf("the answer came over %s, not over HTTP/2 and TLS 1.3", resp.Proto)
	}
	return nil
}

// leave drops connections.
func (p *person) leave() {
	p.http.CloseIdleConnections()
	p.Close()
}
