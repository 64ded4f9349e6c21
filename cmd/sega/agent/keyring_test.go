package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
	sshagent "golang.org/x/crypto/ssh/agent"

	"sega/broker/api"
	"sega/sshca"
)

// cas are an access CA and a front CA.
type cas struct{ access, front ssh.Signer }

func newCAs() *cas {
	return &cas{access: newSigner(), front: newSigner()}
}

func newSigner() ssh.Signer {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		panic(err)
	}
	return signer
}

func (c *cas) frontLines() []string { return []string{sshca.MarshalLine(c.front.PublicKey())} }

// certify makes an access certificate of eight minutes.
func (c *cas) certify(line string, now time.Time) (api.Certificate, error) {
	key, err := sshca.ParseKey(line)
	if err != nil {
		return api.Certificate{}, err
	}
	id := sshca.KeyID{Session: "ses_aaaaaaaaaaaaaaaaaaaa", Person: "alice@example.com"}
	cert, err := sshca.NewAccess(sshca.AccessParams{Key: key, Serial: 1 << 32, KeyID: id, ValidAfter: now.Add(-time.Minute), ValidBefore: now.Add(8 * time.Minute)})
	if err == nil {
		err = sshca.Sign(cert, sshca.Access, c.access)
	}
	if err != nil {
		return api.Certificate{}, err
	}
	return api.Certificate{Certificate: sshca.MarshalLine(cert)}, nil
}

// host makes a host key with a certificate by ca.
func (c *cas) host(t *testing.T, ca ssh.Signer, from, until time.Time) (ssh.Signer, *ssh.Certificate) {
	t.Helper()
	key := newSigner()
	cert, err := sshca.NewFront(sshca.HostParams{Key: key.PublicKey(), Serial: 1 << 32, KeyID: "front b b", Names: []string{"b"}, ValidAfter: from, ValidBefore: until})
	if err == nil {
		err = sshca.Sign(cert, sshca.Front, ca)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// bind is the contents of session-bind@openssh.com.
func bind(t *testing.T, key ssh.Signer, shown ssh.PublicKey, session, signed []byte, forwarding bool) []byte {
	t.Helper()
	sig, err := key.Sign(rand.Reader, signed)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.Marshal(struct {
		HostKey, Session, Signature []byte
		Forwarding                  bool
	}{shown.Marshal(), session, ssh.Marshal(sig), forwarding})
}

// connect returns a client of a keyring.
func connect(t *testing.T, k *Keyring) sshagent.ExtendedAgent {
	t.Helper()
	ours, theirs := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = k.Serve(theirs)
	}()
	t.Cleanup(func() { _ = ours.Close(); <-served })
	return sshagent.NewClient(ours)
}

func newKeyring(t *testing.T, c *cas, now time.Time) (*Keyring, Key) {
	t.Helper()
	key, err := NewKey(t.Context(), func(_ context.Context, public ssh.PublicKey) (*ssh.Certificate, error) {
		answer, err := c.certify(sshca.MarshalLine(public), now)
		if err != nil {
			return nil, err
		}
		return sshca.ParseCertificate(answer.Certificate)
	})
	if err != nil {
		t.Fatal(err)
	}
	return &Keyring{Key: func(context.Context) (Key, error) { return key.copy(), nil }, Front: func() (sshca.Bundle, error) { return sshca.ParseBundle(c.frontLines()) },
		Now: func() time.Time { return now }}, key
}

// TestKeyring: it signs a login at a bastion, and nothing else whatever is asked (R12).
func TestKeyring(t *testing.T) {
	c, now := newCAs(), time.Now()
	ring, key := newKeyring(t, c, now)
	session := bytes.Repeat([]byte{7}, 32)
	host, cert := c.host(t, c.front, now.Add(-time.Minute), now.Add(50*time.Minute))
	_, old := c.host(t, c.front, now.Add(-50*time.Minute), now.Add(-time.Second))
	other, foreign := c.host(t, newSigner(), now.Add(-time.Minute), now.Add(50*time.Minute))
	login := authBlob(string(session), "root+web-1", "ssh-connection", "publickey", "\x01"+lenString("alg")+lenString("key"))
	hostBoundTo := func(k ssh.PublicKey) []byte {
		return authBlob(string(session), "root+web-1", "ssh-connection", hostBound, "\x01"+lenString("alg")+lenString("key")+lenString(string(k.Marshal())))
	}
	for name, test := range map[string]struct {
		binds [][]byte
		data  []byte
		signs bool
	}{
		"bound to a bastion":            {[][]byte{bind(t, host, cert, session, session, false)}, login, true},
		"and to its key":                {[][]byte{bind(t, host, cert, session, session, false)}, hostBoundTo(cert), true},
		"not bound":                     {nil, login, false},
		"to another session":            {[][]byte{bind(t, host, cert, []byte("another"), []byte("another"), false)}, login, false},
		"to a session not signed":       {[][]byte{bind(t, host, cert, session, []byte("another"), false)}, login, false},
		"by another key's signature":    {[][]byte{bind(t, other, cert, session, session, false)}, login, false},
		"to a plain key":                {[][]byte{bind(t, host, host.PublicKey(), session, session, false)}, login, false},
		"to the CA's own key":           {[][]byte{bind(t, c.front, c.front.PublicKey(), session, session, false)}, login, false},
		"to a host of another CA":       {[][]byte{bind(t, other, foreign, session, session, false)}, login, false},
		"to an old certificate":         {[][]byte{bind(t, host, old, session, session, false)}, login, false},
		"to a person's certificate":     {[][]byte{bind(t, host, key.Certificate, session, session, false)}, login, false},
		"forwarded":                     {[][]byte{bind(t, host, cert, session, session, true)}, login, false},
		"forwarded, then bound":         {[][]byte{bind(t, host, cert, []byte("x"), []byte("x"), true), bind(t, host, cert, session, session, false)}, login, false},
		"bound, then forwarded":         {[][]byte{bind(t, host, cert, session, session, false), bind(t, host, cert, []byte("x"), []byte("x"), true)}, login, false},
		"a host-bound login elsewhere":  {[][]byte{bind(t, host, cert, session, session, false)}, hostBoundTo(foreign), false},
		"something else than a login":   {[][]byte{bind(t, host, cert, session, session, false)}, []byte("SSHSIG"), false},
		"garbage for a binding":         {[][]byte{[]byte("garbage")}, login, false},
		"two bastions, the other first": {[][]byte{bind(t, host, cert, []byte("x"), []byte("x"), false), bind(t, host, cert, session, session, false)}, login, true},
	} {
		t.Run(name, func(t *testing.T) {
			agent := connect(t, ring)
			for _, b := range test.binds {
				_, _ = agent.Extension("session-bind@openssh.com", b)
			}
			sig, err := agent.Sign(key.Certificate, test.data)
			if (err == nil) != test.signs {
				t.Fatalf("%v", err)
			}
			if err == nil {
				if err := key.Certificate.Key.Verify(test.data, sig); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestKeyringObeysNobody: nothing is added, removed, locked, or signed with a key that is not there.
func TestKeyringObeysNobody(t *testing.T) {
	c, now := newCAs(), time.Now()
	ring, key := newKeyring(t, c, now)
	ring.Unbound = true
	agent := connect(t, ring)
	more, stranger := testKey(t)
	login := authBlob("session", "u", "ssh-connection", "publickey", "\x01"+lenString("alg")+lenString("key"))
	if _, err := agent.Sign(key.Certificate, login); err != nil {
		t.Errorf("a child of ours: %v", err)
	}
	_, signErr := agent.Sign(stranger, login)
	_, sshsigErr := agent.SignWithFlags(key.Certificate, []byte("SSHSIG"), sshagent.SignatureFlagRsaSha256)
	_, extensionErr := agent.Extension("session-bind@openssh.com", nil)
	for what, err := range map[string]error{"add": agent.Add(sshagent.AddedKey{PrivateKey: more}), "remove": agent.Remove(key.Certificate), "remove all": agent.RemoveAll(),
		"lock": agent.Lock([]byte("x")), "unlock": agent.Unlock([]byte("x")), "another key": signErr, "something else": sshsigErr, "extension": extensionErr} {
		if err == nil {
			t.Errorf("%s was obeyed", what)
		}
	}
	keys, err := agent.List()
	if err != nil || len(keys) != 1 || !bytes.Equal(keys[0].Blob, key.Certificate.Marshal()) {
		t.Errorf("%v, %v", keys, err)
	}
}

// TestSSHKey: one key until its certificate ends soon; none after a revocation.
func TestSSHKey(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		serial := func() string {
			t.Helper()
			k, err := l.sshKey(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			return string(k.Certificate.Key.Marshal())
		}
		first := serial()
		time.Sleep(5 * time.Minute)
		if serial() != first {
			t.Error("another key with three minutes left")
		}
		time.Sleep(2 * time.Minute)
		second := serial()
		if second == first {
			t.Error("a certificate with a minute left")
		}
		b.with(func(b *broker) { b.standing = "s2" })
		time.Sleep(2 * time.Second)
		if serial() == second {
			t.Error("a certificate of another standing")
		}
		b.items <- revocation()
		<-l.done
		if _, err := l.sshKey(t.Context(), "", ""); !api.IsKind(err, api.KindRevoked) && !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		l.ssh.mu.Lock()
		defer l.ssh.mu.Unlock()
		if l.ssh.key != nil {
			t.Error("a key is held after the revocation")
		}
	})
}

// TestRevokedCertificate: a certificate of the login's is not shown any more once it was revoked, and all else of the login goes on.
func TestRevokedCertificate(t *testing.T) {
	b := newBroker()
	alive(t, b, func(t *testing.T, l *life) {
		mustGet(t, l, "dev")
		key := func() *ssh.Certificate {
			t.Helper()
			k, err := l.sshKey(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			return k.Certificate
		}
		revoke := func(r api.Revocation) {
			b.items <- api.FeedItem{Type: api.FeedRevoke, LeaseMS: 30_000, Revocation: &r}
			synctest.Wait()
		}
		first := key()
		for _, other := range []api.Revocation{{Index: 1, Profile: api.ProfileAccess, Serial: first.Serial + 100}, {Index: 2, Profile: api.ProfileHop, Serial: first.Serial}, {Index: 3, Host: "web-1"}} {
			if revoke(other); key() != first {
				t.Errorf("%+v: another certificate", other)
			}
		}
		revoke(api.Revocation{Index: 4, Profile: api.ProfileAccess, Serial: first.Serial, Reason: "copied"})
		if again := key(); bytes.Equal(again.Key.Marshal(), first.Key.Marshal()) {
			t.Error("the revoked certificate's key is shown")
		}
		if got := mustGet(t, l, "dev"); got != "ASIA1" || l.over() != nil {
			t.Errorf("the login: %s, %v", got, l.over())
		}
	})
}

// FuzzBind: no binding is taken that no front CA stands behind.
func FuzzBind(f *testing.F) {
	c := newCAs()
	ring := &Keyring{Front: func() (sshca.Bundle, error) { return sshca.ParseBundle(c.frontLines()) }, Now: time.Now}
	f.Add([]byte{})
	f.Add(ssh.Marshal(struct {
		HostKey, Session, Signature []byte
		Forwarding                  bool
	}{c.front.PublicKey().Marshal(), []byte("s"), []byte("x"), false}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := (&client{ring: ring}).bind(data); err == nil {
			t.Error("taken")
		}
	})
}
