//go:build linux

package attack

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"sega/broker"
	"sega/broker/api"
	"sega/cmd/segad/dev/provider"
	"sega/idp"
	"sega/keychain/secret"
	"sega/sshca"
)

// person is somebody with a session.
type person struct {
	*world
	key   *holder
	token string
	api.Session
}

// fresh is a login that would succeed: a key, the random, and the claims of the ID token.
type fresh struct {
	key    *holder
	random []byte
	claims map[string]any
}

func (w *world) fresh(email string) fresh {
	w.t.Helper()
	f := fresh{key: newHolder(w.t), random: make([]byte, 32)}
	rand.Read(f.random)
	f.claims = w.provider.Claims(email, idp.Nonce(f.key.Thumbprint(), w.web.URL, f.random))
	return f
}

// shot shows an ID token to the broker.
func (f fresh) shot(token string) shot {
	return post(api.RouteLogin, f.key, "", api.LoginRequest{IDToken: secret.FromString(token), Random: b64(f.random), Method: api.MethodBrowser, Client: "attack"})
}

// good is the login as it should be.
func (w *world) good(f fresh) shot {
	return f.shot(w.provider.Mint(f.claims, nil, provider.MintOptions{}))
}

// login opens a session; name is the part of the e-mail before the @.
func (w *world) login(name string) *person {
	w.t.Helper()
	f := w.fresh(name + "@example.com")
	return w.admitted(f.key, w.send(w.good(f)))
}

func (w *world) admitted(key *holder, a answer) *person {
	w.t.Helper()
	s := into[api.Session](w.t, a)
	if s.Token.Empty() {
		w.t.Fatal("a login without a token")
	}
	return &person{world: w, key: key, token: string(s.Token.Reveal()), Session: s}
}

func (p *person) post(path string, body any) shot { return post(path, p.key, p.token, body) }
func (p *person) get(path string) shot            { return get(path, p.key, p.token) }

// credentials asks for AWS credentials.
func (p *person) credentials() shot {
	return p.post(api.RouteCredentials, api.CredentialsRequest{Role: "dev-admin"})
}

// certificate asks for an access certificate for a new key.
func (p *person) certificate() shot {
	return p.post(api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(newSigner(p.t).PublicKey())})
}

// revoke asks for a revocation.
func (p *person) revoke(subject, id string) shot {
	return p.post(api.RouteRevoke, api.RevokeRequest{Subject: subject, ID: id, Reason: "attack"})
}

func (p *person) unblock(id string) shot {
	return p.post(api.RouteUnblock, api.UnblockRequest{ID: id, Reason: "attack"})
}

// stillIn checks that a session works.
func (p *person) stillIn() {
	p.t.Helper()
	if a := p.send(p.get(api.RouteSession)); a.code != 200 {
		p.t.Errorf("the session of %s no longer works: %s", p.Person.Email, a.body)
	}
}

// joinToken makes a join token known to the broker.
func (w *world) joinToken(name string, life time.Duration) secret.Secret {
	w.t.Helper()
	token := api.NewToken(api.PrefixJoin)
	hash := sha256.Sum256(token.Reveal())
	if err := broker.AddJoinToken(context.Background(), w.log, hash[:], name, "bastion", w.clock.now().Add(life)); err != nil {
		w.t.Fatal(err)
	}
	return token
}

func enroll(key *holder, token secret.Secret, name string) shot {
	return post(api.RouteEnroll, key, "", api.EnrollRequest{Token: token, Name: name, Kind: "bastion"})
}

// machine is an enrolled bastion with a session.
type machine struct {
	*world
	key   *holder
	token string
	api.MachineSession
}

func (w *world) machine(name string) *machine {
	w.t.Helper()
	key := newHolder(w.t)
	into[api.Machine](w.t, w.send(enroll(key, w.joinToken(name, time.Hour), name)))
	return w.machineSession(key)
}

func (w *world) machineSession(key *holder) *machine {
	w.t.Helper()
	s := into[api.MachineSession](w.t, w.send(post(api.RouteMachine, key, "", api.Empty{})))
	return &machine{world: w, key: key, token: string(s.Token.Reveal()), MachineSession: s}
}

func (m *machine) post(path string, body any) shot { return post(path, m.key, m.token, body) }

// TestTheHarness does what every attack varies: without it a refusal would prove nothing.
func TestTheHarness(t *testing.T) {
	w := newWorld(t)
	alice := w.login("alice")
	alice.stillIn()
	if c := into[api.Credentials](t, w.send(alice.credentials())); c.SecretAccessKey.Empty() || !strings.Contains(c.AssumedRoleARN, "alice@example.com") {
		t.Errorf("credentials %+v", c)
	}
	_, serial, fingerprint := alice.certified()
	m := w.machine(bastionName)
	hop := into[api.Hop](t, w.send(m.post(api.RouteHop, hopFor(t, serial, fingerprint))))
	if hop.Person.Email != "alice@example.com" || hop.Address == "" {
		t.Errorf("hop %+v", hop)
	}
	into[api.Empty](t, w.send(m.report("session.start", hop.SessionID)))
	into[api.Certificate](t, w.send(m.post(api.RouteFront, api.FrontRequest{PublicKey: sshca.MarshalLine(newSigner(t).PublicKey()), Host: "web-1"})))
	into[api.Sessions](t, w.send(w.login("sam").get(api.RouteSessions)))
}
