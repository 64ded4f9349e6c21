package sshca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	loginID   = "ses_abcdefghijkmnpqrstuv"
	sessionID = "ssh_abcdefghijkmnpqrstuv"
	person    = "jane@corp.example"
)

var (
	noon   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	anyone = netip.MustParseAddr("192.0.2.7")
)

func signerOf(tb testing.TB, key crypto.Signer, err error) ssh.Signer {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	s, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func newEd25519(tb testing.TB) ssh.Signer {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return signerOf(tb, key, err)
}

func newECDSA(tb testing.TB) ssh.Signer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	return signerOf(tb, key, err)
}

// rsaKeys are made once a run: they take seconds.
var rsaKeys = sync.OnceValue(func() map[int]*rsa.PrivateKey {
	m := map[int]*rsa.PrivateKey{}
	for _, bits := range []int{2048, 3072} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		m[bits] = key
	}
	return m
})

func newRSA(tb testing.TB, bits int) ssh.Signer {
	tb.Helper()
	return signerOf(tb, rsaKeys()[bits], nil)
}

// skKey returns a hardware-bound key's public half.
func skKey(tb testing.TB) ssh.PublicKey {
	tb.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type string
		Key  []byte
		App  string
	}{ssh.KeyAlgoSKED25519, pub, "ssh:"}))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func mustSerial(tb testing.TB, era, counter uint32) Serial {
	tb.Helper()
	s, err := NewSerial(era, counter)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func accessParams(tb testing.TB) AccessParams {
	after, before := Access.Window(noon, AccessLifetime)
	return AccessParams{Key: newEd25519(tb).PublicKey(), Serial: mustSerial(tb, 1, 7), KeyID: KeyID{loginID, person}, ValidAfter: after, ValidBefore: before}
}

func hopParams(tb testing.TB) HopParams {
	after, before := Hop.Window(noon, HopLifetime)
	return HopParams{Key: newEd25519(tb).PublicKey(), Serial: mustSerial(tb, 1, 8), KeyID: KeyID{sessionID, person}, Login: "deploy", HostID: "db1.prod.example",
		ValidAfter: after, ValidBefore: before, SourceAddresses: []string{"10.0.0.5", "2001:db8::/64"}, PTY: true}
}

func hostParams(tb testing.TB, p Profile) HostParams {
	after, before := p.Window(noon, time.Hour)
	return HostParams{Key: newEd25519(tb).PublicKey(), Serial: mustSerial(tb, 1, 9), KeyID: "mch_1 db1", Names: []string{"db1.prod.example", "db1"}, ValidAfter: after, ValidBefore: before}
}

// issue builds and signs a certificate through the API.
func issue[P any](tb testing.TB, build func(P) (*ssh.Certificate, error), params P, profile Profile, ca ssh.Signer) *ssh.Certificate {
	tb.Helper()
	c, err := build(params)
	if err != nil {
		tb.Fatal(err)
	}
	if err := Sign(c, profile, ca); err != nil {
		tb.Fatal(err)
	}
	return c
}

// forge signs whatever it is given, as an attacker with the CA or another product would.
func forge(tb testing.TB, c *ssh.Certificate, ca ssh.Signer) *ssh.Certificate {
	tb.Helper()
	if err := c.SignCert(rand.Reader, ca); err != nil {
		tb.Fatal(err)
	}
	return c
}
