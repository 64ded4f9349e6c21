package sshca

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

const (
	minRSABits = 3072
	maxRSABits = 8192  // larger ones only cost time
	maxLine    = 32768 // characters; 64 names and an 8192-bit key under an 8192-bit CA stay below
)

// CheckKey checks that a key may be certified or may sign certificates: Ed25519, ECDSA, their
// hardware-bound sk- forms, or RSA of 3072 to 8192 bits. A certificate is no key.
func CheckKey(key ssh.PublicKey) error {
	if key == nil {
		return fmt.Errorf("%w: none given", ErrKey)
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return fmt.Errorf("%w: a certificate where a plain key must stand", ErrKey)
	}
	switch t := key.Type(); t {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		return checkRSA(key)
	default:
		return fmt.Errorf("%w: %s; use Ed25519", ErrKey, t)
	}
}

func checkRSA(key ssh.PublicKey) error {
	c, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return fmt.Errorf("%w: RSA key of unknown size", ErrKey)
	}
	pub, ok := c.CryptoPublicKey().(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("%w: RSA key of unknown size", ErrKey)
	}
	if n := pub.N.BitLen(); n < minRSABits || n > maxRSABits {
		return fmt.Errorf("%w: RSA of %d bits, %d to %d allowed; use Ed25519", ErrKey, n, minRSABits, maxRSABits)
	}
	return nil
}

// IsHardware reports whether a key is bound to a FIDO2 authenticator (an sk- key). That one stands behind
// it is the word of whoever made the key: ssh asks for no attestation.
func IsHardware(key ssh.PublicKey) bool {
	return key != nil && (key.Type() == ssh.KeyAlgoSKED25519 || key.Type() == ssh.KeyAlgoSKECDSA256)
}

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// signatureAlgorithm returns the only algorithm with which a CA of this key type signs. For RSA it
// is rsa-sha2-512: "ssh-rsa" is SHA-1.
func signatureAlgorithm(ca ssh.PublicKey) string {
	if ca.Type() == ssh.KeyAlgoRSA {
		return ssh.KeyAlgoRSASHA512
	}
	return ca.Type()
}

// ParseKey parses one line of authorized_keys form (type, base64, optional comment; no options)
// that holds a plain key which CheckKey accepts.
func ParseKey(line string) (ssh.PublicKey, error) {
	key, err := parseLine(line)
	if err != nil {
		return nil, err
	}
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	return key, nil
}

// ParseCertificate parses one line of authorized_keys form (type, base64, optional comment; no
// options) that holds a certificate. It checks the form alone; see CheckAccess and CheckHost.
func ParseCertificate(line string) (*ssh.Certificate, error) {
	key, err := parseLine(line)
	if err != nil {
		return nil, err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, fmt.Errorf("%w: a plain key", ErrMalformed)
	}
	return cert, nil
}

// parseLine is strict where ssh.ParseAuthorizedKey is lenient: one line, no options, and bytes that
// come out again as they went in, so that one certificate has one Digest.
func parseLine(line string) (ssh.PublicKey, error) {
	line = strings.TrimRight(line, "\r\n")
	if len(line) > maxLine || strings.ContainsAny(line, "\r\n\x00") {
		return nil, fmt.Errorf("%w: want one line of at most %d characters", ErrMalformed, maxLine)
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return nil, fmt.Errorf("%w: want type and base64", ErrMalformed)
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		return nil, fmt.Errorf("%w: bad base64", ErrMalformed)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if key.Type() != fields[0] || !bytes.Equal(key.Marshal(), blob) {
		return nil, fmt.Errorf("%w: not in canonical form", ErrMalformed)
	}
	return key, nil
}

// MarshalLine returns a key or certificate in authorized_keys form, without comment and newline.
func MarshalLine(key ssh.PublicKey) string {
	return line(key.Type(), key.Marshal())
}

func line(kind string, blob []byte) string {
	return kind + " " + base64.StdEncoding.EncodeToString(blob)
}

// Digest returns the SHA-256 of the certificate's blob, signature included, in lower-case hex.
func Digest(cert *ssh.Certificate) string { return digest(cert.Marshal()) }

func digest(blob []byte) string {
	sum := sha256.Sum256(blob)
	return hex.EncodeToString(sum[:])
}

// Encode returns MarshalLine and Digest of a signed certificate, which is encoded once for both.
func Encode(cert *ssh.Certificate) (inLine, inHex string) {
	blob := cert.Marshal()
	return line(cert.Type(), blob), digest(blob)
}

// Bundle is the list of CA keys that a verifier trusts for one purpose: the old and the new one
// while rotating. The empty bundle trusts nobody.
type Bundle []ssh.PublicKey

// ParseBundle parses lines of authorized_keys form, each a plain key that CheckKey accepts. Repeats
// are dropped.
func ParseBundle(lines []string) (Bundle, error) {
	var b Bundle
	for i, line := range lines {
		key, err := ParseKey(line)
		if err != nil {
			return nil, fmt.Errorf("CA key %d: %w", i+1, err)
		}
		if !b.Has(key) {
			b = append(b, key)
		}
	}
	return b, nil
}

// Has reports whether key is in the bundle. A certificate never is.
func (b Bundle) Has(key ssh.PublicKey) bool {
	if key == nil || CheckKey(key) != nil {
		return false
	}
	for _, k := range b {
		if sameKey(k, key) {
			return true
		}
	}
	return false
}
