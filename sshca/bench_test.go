package sshca

import (
	"testing"

	"golang.org/x/crypto/ssh"
)

func BenchmarkSign(b *testing.B) {
	for name, ca := range map[string]ssh.Signer{"ed25519": newEd25519(b), "ecdsa-p384": newECDSA(b), "rsa-3072": newRSA(b, 3072)} {
		b.Run(name, func(b *testing.B) {
			p := accessParams(b)
			b.ReportAllocs()
			for b.Loop() {
				c, err := NewAccess(p)
				if err != nil {
					b.Fatal(err)
				}
				if err := Sign(c, Access, ca); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCheckAccess(b *testing.B) {
	ca := newEd25519(b)
	line := MarshalLine(issue(b, NewAccess, accessParams(b), Access, ca))
	bundle := Bundle{ca.PublicKey()}
	b.ReportAllocs()
	for b.Loop() {
		c, err := ParseCertificate(line)
		if err != nil {
			b.Fatal(err)
		}
		if err := CheckAccess(c, bundle, noon, anyone); err != nil {
			b.Fatal(err)
		}
	}
}
