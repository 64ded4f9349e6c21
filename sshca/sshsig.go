package sshca

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

const (
	sigArmor = "SSH SIGNATURE"
	sigMagic = "SSHSIG"
	maxArmor = 32768 // an RSA key of 8192 bits and its signature stay far below

	// Flags of a FIDO2 signature (OpenSSH's PROTOCOL.u2f).
	flagPresent  = 0x01
	flagVerified = 0x04
)

// Proof is what a signature over a message shows of its key.
type Proof struct {
	Key      ssh.PublicKey // that signed; CheckKey accepts it
	Hardware bool          // a FIDO2 key that says somebody touched it; a signature without that is none
	Verified bool          // which says, too, that it knows who: by a PIN or a fingerprint
}

// CheckProof verifies what `ssh-keygen -Y sign -n NAMESPACE` made of a message: an armored SSHSIG (OpenSSH's
// PROTOCOL.sshsig). Whatever is wrong with it is ErrProof, or ErrKey where the key may not be certified.
func CheckProof(armored, namespace string, message []byte) (Proof, error) {
	s, err := parseSignature(armored)
	if err != nil {
		return Proof{}, err
	}
	if s.namespace != namespace {
		return Proof{}, fmt.Errorf("%w: it was made for %q, not for %q", ErrProof, clip(s.namespace), namespace)
	}
	if err := CheckKey(s.key); err != nil {
		return Proof{}, err
	}
	signed, err := s.signed(message)
	if err != nil {
		return Proof{}, err
	}
	// x/crypto refuses a FIDO2 signature that nobody touched the key for.
	if err := s.key.Verify(signed, s.signature); err != nil {
		return Proof{}, fmt.Errorf("%w: it does not verify", ErrProof)
	}
	p := Proof{Key: s.key, Hardware: IsHardware(s.key)}
	if !p.Hardware {
		return p, nil
	}
	flags, err := skFlags(s.signature)
	if err != nil || flags&flagPresent == 0 {
		return Proof{}, fmt.Errorf("%w: nobody touched the key", ErrProof)
	}
	p.Verified = flags&flagVerified != 0
	return p, nil
}

// skFlags reads the flags of a FIDO2 signature; they stand, with a counter of 4 bytes, behind the
// signature proper, which covers them.
func skFlags(sig *ssh.Signature) (byte, error) {
	const rest = 5
	if len(sig.Rest) != rest {
		return 0, fmt.Errorf("%w: %d bytes of flags and counter", ErrProof, len(sig.Rest))
	}
	return sig.Rest[0], nil
}

// sshsig is an armored signature, taken apart.
type sshsig struct {
	namespace, hash string
	key             ssh.PublicKey
	signature       *ssh.Signature
}

func parseSignature(armored string) (sshsig, error) {
	if len(armored) > maxArmor {
		return sshsig{}, fmt.Errorf("%w: larger than %d characters", ErrProof, maxArmor)
	}
	block, rest := pem.Decode([]byte(armored))
	if block == nil || block.Type != sigArmor || len(block.Headers) > 0 || strings.TrimSpace(string(rest)) != "" {
		return sshsig{}, fmt.Errorf("%w: no armored SSH signature", ErrProof)
	}
	body, ok := bytes.CutPrefix(block.Bytes, []byte(sigMagic))
	if !ok {
		return sshsig{}, fmt.Errorf("%w: no SSH signature", ErrProof)
	}
	var w struct {
		Version   uint32
		PublicKey []byte
		Namespace string
		Reserved  []byte
		Hash      string
		Signature []byte
	}
	if err := ssh.Unmarshal(body, &w); err != nil || w.Version != 1 || len(w.Reserved) > 0 {
		return sshsig{}, fmt.Errorf("%w: not of the form that is known", ErrProof)
	}
	s := sshsig{namespace: w.Namespace, hash: w.Hash, signature: new(ssh.Signature)}
	var err error
	if s.key, err = ssh.ParsePublicKey(w.PublicKey); err != nil || !bytes.Equal(s.key.Marshal(), w.PublicKey) {
		return sshsig{}, fmt.Errorf("%w: its key cannot be read", ErrProof)
	}
	if err := ssh.Unmarshal(w.Signature, s.signature); err != nil {
		return sshsig{}, fmt.Errorf("%w: not of the form that is known", ErrProof)
	}
	if got, want := s.signature.Format, signatureAlgorithm(s.key); got != want {
		return sshsig{}, fmt.Errorf("%w: algorithm %q, not %q", ErrProof, clip(got), want)
	}
	return s, nil
}

// signed returns the bytes that the signature is over.
func (s sshsig) signed(message []byte) ([]byte, error) {
	var sum []byte
	switch s.hash {
	case "sha512":
		h := sha512.Sum512(message)
		sum = h[:]
	case "sha256":
		h := sha256.Sum256(message)
		sum = h[:]
	default:
		return nil, fmt.Errorf("%w: hash %q", ErrProof, clip(s.hash))
	}
	return append([]byte(sigMagic), ssh.Marshal(struct {
		Namespace string
		Reserved  []byte
		Hash      string
		Sum       []byte
	}{s.namespace, nil, s.hash, sum})...), nil
}
