package bastion

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sega/sshca"
)

// forged returns a copy of a good certificate that change has altered and ca has signed anew.
func forged(t *testing.T, c credential, ca ssh.Signer, change func(*ssh.Certificate)) ssh.Signer {
	t.Helper()
	cert := *c.cert
	change(&cert)
	if ca != nil {
		if err := cert.SignCert(rand.Reader, ca); err != nil {
			t.Fatal(err)
		}
	}
	plain, err := ssh.NewSignerFromKey(c.key)
	if err != nil {
		t.Fatal(err)
	}
	return certSigner{plain, &cert}
}

// certSigner shows any certificate at all; ssh.NewCertSigner would check it.
type certSigner struct {
	ssh.Signer
	cert ssh.PublicKey
}

func (s certSigner) PublicKey() ssh.PublicKey { return s.cert }

func TestBadCertificatesAreRefusedAndReported(t *testing.T) {
	f := newFakeControl(t)
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	for name, tc := range map[string]struct {
		signer func(*testing.T, credential) ssh.Signer
		want   string
	}{
		"expired": {func(t *testing.T, c credential) ssh.Signer {
			return forged(t, c, f.access, func(x *ssh.Certificate) {
				x.ValidAfter, x.ValidBefore = uint64(time.Now().Add(-time.Hour).Unix()), uint64(time.Now().Add(-time.Minute).Unix())
			})
		}, sshca.ErrExpired.Error()},
		"not yet valid": {func(t *testing.T, c credential) ssh.Signer {
			return forged(t, c, f.access, func(x *ssh.Certificate) {
				x.ValidAfter, x.ValidBefore = uint64(time.Now().Add(time.Minute).Unix()), uint64(time.Now().Add(2*time.Minute).Unix())
			})
		}, sshca.ErrNotYetValid.Error()},
		"foreign CA": {func(t *testing.T, c credential) ssh.Signer {
			return forged(t, c, newSigner(t), func(*ssh.Certificate) {})
		}, sshca.ErrUnknownCA.Error()},
		"hop CA": {func(t *testing.T, c credential) ssh.Signer {
			return forged(t, c, f.hop, func(*ssh.Certificate) {})
		}, sshca.ErrUnknownCA.Error()},
		"empty principals": {func(t *testing.T, c credential) ssh.Signer {
			return forged(t, c, f.access, func(x *ssh.Certificate) { x.ValidPrincipals = nil })
		}, sshca.ErrPrincipal.Error()},
		"unknown critical option": {func(t *testing.T, c credential) ssh.Signer {
			return forged(t, c, f.access, func(x *ssh.Certificate) { x.CriticalOptions = map[string]string{"verify-required": ""} })
		}, sshca.ErrOption.Error()},
		"source address": {func(t *testing.T, c credential) ssh.Signer {
			return forged(t, c, f.access, func(x *ssh.Certificate) {
				x.CriticalOptions = map[string]string{"source-address": "192.0.2.0/24"}
			})
		}, sshca.ErrSource.Error()},
		"host certificate": {func(t *testing.T, c credential) ssh.Signer {
			return forged(t, c, f.access, func(x *ssh.Certificate) { x.CertType = ssh.HostCert })
		}, sshca.ErrType.Error()},
		"altered after signing": {func(t *testing.T, c credential) ssh.Signer {
			return forged(t, c, nil, func(x *ssh.Certificate) { x.Serial++ })
		}, sshca.ErrSignature.Error()},
		"nested": {func(t *testing.T, c credential) ssh.Signer {
			return forged(t, c, nil, func(x *ssh.Certificate) { x.SignatureKey = f.credential(t).cert })
		}, "invalid for certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, f)
			before := len(f.find(kindRefuse))
			for _, user := range []string{"ada", "root%web-1"} {
				if _, err := w.dial(user, tc.signer(t, f.credential(t))); err == nil {
					t.Fatalf("%s got in", user)
				}
			}
			eventually(t, "a report", func() bool { return len(f.find(kindRefuse)) > before })
			r := f.find(kindRefuse)[before]
			if r.Outcome != "denied" || !strings.Contains(r.Reason, tc.want) || r.Source != "127.0.0.1" || r.SessionID != "" {
				t.Errorf("reported %+v, want the reason %q", r, tc.want)
			}
		})
	}
	if got := h.logins(); len(got) != 0 {
		t.Errorf("the host was reached as %v", got)
	}
}

// TestRefusalsAreCoalesced knocks many times: one event at once, one with the number of the rest.
func TestRefusalsAreCoalesced(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f, func(c *Config) { c.RefuseWindow = time.Hour })
	bad := forged(t, f.credential(t), newSigner(t), func(*ssh.Certificate) {})
	for range 5 {
		if _, err := w.dial("ada", bad); err == nil {
			t.Fatal("got in")
		}
	}
	f.only(t, kindRefuse)
	if err := w.stop(); err != nil { // closes the window
		t.Fatal(err)
	}
	got := f.find(kindRefuse)
	if len(got) != 2 {
		t.Fatalf("%d events: %+v", len(got), got)
	}
	var d refusal
	decode(t, got[1].Details, &d)
	if d.Count != 4 {
		t.Errorf("counted %d repeats, want 4", d.Count)
	}
}

// TestIdentityIsTheSigner offers a stranger's good certificate first, which the bastion accepts as an
// offer, fails to sign with it, and signs with another: Go's library lets a server mistake the one
// for the other.
func TestIdentityIsTheSigner(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	victim, own := f.credential(t), f.credential(t)
	o := w.openssh(t, own)
	thief := &thiefAgent{own: own, victim: victim}
	socket := filepath.Join(o.dir, "agent")
	thief.listen(t, socket)
	config := filepath.Join(o.dir, "config")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(l string) bool {
		l = strings.TrimSpace(l)
		return strings.HasPrefix(l, "Identit") || strings.HasPrefix(l, "CertificateFile")
	})
	writeFile(t, config, strings.Join(lines, "\n")+"  IdentityFile none\n  IdentityAgent "+socket+"\n")
	got := o.run(nil, currentLogin(t)+"%web-1@bastion", "true")
	if got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	if !thief.asked.Load() {
		t.Fatal("the victim's certificate was not offered and accepted: the test proves nothing")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.hops) != 1 || f.hops[0].AccessSerial != own.cert.Serial || f.hops[0].AccessKey != ssh.FingerprintSHA256(own.cert.Key) {
		t.Errorf("the broker was asked for %+v, want serial %d", f.hops, own.cert.Serial)
	}
}

// thiefAgent lists a stranger's certificate before its owner's, and can sign with the latter alone.
type thiefAgent struct {
	agent.Agent
	own, victim credential
	asked       atomic.Bool // to sign as the victim
}

func (a *thiefAgent) List() ([]*agent.Key, error) {
	var keys []*agent.Key
	for _, c := range []credential{a.victim, a.own} {
		keys = append(keys, &agent.Key{Format: c.cert.Type(), Blob: c.cert.Marshal()})
	}
	return keys, nil
}

func (a *thiefAgent) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	if bytes.Equal(key.Marshal(), a.own.cert.Marshal()) {
		return a.own.signer.Sign(rand.Reader, data)
	}
	a.asked.Store(true)
	return nil, errors.New("no such key")
}

func (a *thiefAgent) listen(t *testing.T, socket string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _ = agent.ServeAgent(a, c); _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
}

// TestStolenCertificateWithoutItsKey signs with a wrong key under a good certificate.
func TestStolenCertificateWithoutItsKey(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f)
	stolen := certSigner{newSigner(t), f.credential(t).cert}
	if _, err := w.dial("root%web-1", stolen); err == nil {
		t.Fatal("got in")
	}
	r := f.only(t, kindRefuse)
	var d refusal
	decode(t, r.Details, &d)
	if !d.Signed || !strings.Contains(r.Reason, "signature") {
		t.Errorf("reported %+v, %+v", r, d)
	}
}

func TestPlainKeysAndPasswordsGetNothing(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f)
	config := w.dialConfig("root%web-1", newSigner(t))
	config.Auth = append(config.Auth, ssh.Password("secret"))
	if _, err := ssh.Dial("tcp", w.addr, config); err == nil {
		t.Error("got in")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.hops) != 0 {
		t.Errorf("the broker was asked: %+v", f.hops)
	}
}

func TestInnerCertificateMustBeTheOuterOne(t *testing.T) {
	f := newFakeControl(t)
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	conn, err := w.jump(t, f.credential(t), "web-1:22")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := ssh.NewClientConn(conn, "web-1:22", w.dialConfig("root", f.credential(t).signer)); err == nil {
		t.Error("another good certificate got in")
	}
	if r := f.only(t, kindRefuse); !strings.Contains(r.Reason, errOtherCert.Error()) {
		t.Errorf("reported %+v", r)
	}
	if got := h.logins(); len(got) != 0 {
		t.Errorf("the host was reached as %v", got)
	}
}
