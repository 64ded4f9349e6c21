package krl

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

func TestVerifyRefuses(t *testing.T) {
	by := signer(t, "hop CA")
	data := marshal(t, everyKind(t))
	sig, err := Sign(data, by)
	if err != nil {
		t.Fatal(err)
	}
	bundle := sshca.Bundle{by.PublicKey()}
	foreign, err := Sign(data, signer(t, "somebody's key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		data, sig []byte
		keys      sshca.Bundle
	}{
		"a byte less":            {data[:len(data)-1], sig, bundle},
		"a byte more":            {append(bytes.Clone(data), 0), sig, bundle},
		"nothing signed":         {nil, sig, bundle},
		"a foreign key":          {data, foreign, bundle},
		"no key trusted":         {data, sig, nil},
		"no signature":           {data, nil, bundle},
		"a signature cut off":    {data, sig[:len(sig)/2], bundle},
		"something behind it":    {data, append(bytes.Clone(sig), "x"...), bundle},
		"two signatures":         {data, append(bytes.Clone(sig), sig...), bundle},
		"another kind of armour": {data, bytes.ReplaceAll(sig, []byte("SSH SIGNATURE"), []byte("PGP SIGNATURE")), bundle},
	} {
		t.Run(name, func(t *testing.T) {
			if err := Verify(tt.data, tt.sig, tt.keys); !errors.Is(err, ErrSignature) {
				t.Errorf("got %v", err)
			}
		})
	}
	parsed, err := parseSig(sig)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*sshsig){
		"another namespace":   func(s *sshsig) { s.Namespace = "file" },
		"another version":     func(s *sshsig) { s.Version = 2 },
		"another hash":        func(s *sshsig) { s.Hash = "sha256" },
		"the reserved field":  func(s *sshsig) { s.Reserved = "x" },
		"another key's name":  func(s *sshsig) { s.PublicKey = public(t, "somebody's key").Marshal() },
		"an unreadable key":   func(s *sshsig) { s.PublicKey = []byte("x") },
		"no signature inside": func(s *sshsig) { s.Signature = nil },
		"a signature of RSA with SHA-1": func(s *sshsig) {
			s.Signature = ssh.Marshal(ssh.Signature{Format: ssh.KeyAlgoRSA, Blob: []byte("x")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad := parsed
			change(&bad)
			if err := Verify(data, armour(append([]byte(sigMagic), ssh.Marshal(bad)...)), bundle); !errors.Is(err, ErrSignature) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestSignRefuses: a signer that knows no SHA-2 would be taken by nobody.
func TestSignRefuses(t *testing.T) {
	if _, err := Sign([]byte("x"), struct{ ssh.Signer }{signerOf(t, rsaKey())}); !errors.Is(err, sshca.ErrAlgorithm) {
		t.Error(err)
	}
}
