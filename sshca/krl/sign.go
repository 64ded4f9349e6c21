package krl

import (
	"bytes"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

// Namespace is what a signature of a KRL is for: one by the same key for anything else is none.
const Namespace = "sega-krl@sega"

// ErrSignature is for a signature that is no valid one of this KRL by a trusted key.
var ErrSignature = errors.New("krl: the signature does not verify")

const (
	sigMagic   = "SSHSIG"
	sigVersion = 1
	sigHash    = "sha512"
	sigPEM     = "SSH SIGNATURE"
	sigLine    = 70 // characters, as ssh-keygen writes
	maxSig     = 16 << 10
)

// sshsig is the blob of PROTOCOL.sshsig, without its magic.
type sshsig struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// signed is what the key signs, without its magic.
type signed struct {
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

func signedBytes(data []byte) []byte {
	sum := sha512.Sum512(data)
	return append([]byte(sigMagic), ssh.Marshal(signed{Namespace: Namespace, Hash: sigHash, Digest: sum[:]})...)
}

// Sign returns the detached signature of a KRL in the armour of `ssh-keygen -Y sign`. A key of RSA signs with
// rsa-sha2-512 alone.
func Sign(data []byte, by ssh.Signer) ([]byte, error) {
	if err := sshca.CheckKey(by.PublicKey()); err != nil {
		return nil, fmt.Errorf("krl: sign: %w", err)
	}
	sig, err := signWith(by, signedBytes(data))
	if err != nil {
		return nil, fmt.Errorf("krl: sign: %w", err)
	}
	blob := append([]byte(sigMagic), ssh.Marshal(sshsig{Version: sigVersion, PublicKey: by.PublicKey().Marshal(), Namespace: Namespace,
		Hash: sigHash, Signature: ssh.Marshal(sig)})...)
	return armour(blob), nil
}

func signWith(by ssh.Signer, data []byte) (*ssh.Signature, error) {
	if by.PublicKey().Type() != ssh.KeyAlgoRSA {
		return by.Sign(rand.Reader, data)
	}
	s, ok := by.(ssh.AlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("%w: this RSA signer knows SHA-1 alone", sshca.ErrAlgorithm)
	}
	return s.SignWithAlgorithm(rand.Reader, data, ssh.KeyAlgoRSASHA512)
}

func armour(blob []byte) []byte {
	var b bytes.Buffer
	b.WriteString("-----BEGIN " + sigPEM + "-----\n")
	text := base64.StdEncoding.EncodeToString(blob)
	for len(text) > 0 {
		n := min(len(text), sigLine)
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	b.WriteString("-----END " + sigPEM + "-----\n")
	return b.Bytes()
}

// Verify checks a detached signature of a KRL: by a key of the bundle, for Namespace, over these bytes. It takes what
// Sign and `ssh-keygen -Y sign -n sega-krl@sega` write. Errors are ErrSignature.
func Verify(data, signature []byte, keys sshca.Bundle) error {
	sig, err := parseSig(signature)
	if err != nil {
		return err
	}
	key, err := ssh.ParsePublicKey(sig.PublicKey)
	if err != nil || !keys.Has(key) {
		return fmt.Errorf("%w: by a key that is not trusted", ErrSignature)
	}
	var inner ssh.Signature
	if err := ssh.Unmarshal(sig.Signature, &inner); err != nil {
		return fmt.Errorf("%w: unreadable", ErrSignature)
	}
	if inner.Format == ssh.KeyAlgoRSA {
		return fmt.Errorf("%w: made with SHA-1", ErrSignature)
	}
	if key.Verify(signedBytes(data), &inner) != nil {
		return fmt.Errorf("%w: it is of other bytes, or forged", ErrSignature)
	}
	return nil
}

func parseSig(armoured []byte) (sig sshsig, err error) {
	if len(armoured) > maxSig {
		return sig, fmt.Errorf("%w: %d bytes", ErrSignature, len(armoured))
	}
	block, rest := pem.Decode(armoured)
	if block == nil || block.Type != sigPEM || len(block.Headers) > 0 || strings.TrimSpace(string(rest)) != "" {
		return sig, fmt.Errorf("%w: no SSH signature", ErrSignature)
	}
	blob, ok := bytes.CutPrefix(block.Bytes, []byte(sigMagic))
	if !ok || ssh.Unmarshal(blob, &sig) != nil || sig.Version != sigVersion || sig.Hash != sigHash || sig.Reserved != "" {
		return sig, fmt.Errorf("%w: of a form that is not known", ErrSignature)
	}
	if sig.Namespace != Namespace {
		return sig, fmt.Errorf("%w: it is for %q", ErrSignature, clip(sig.Namespace))
	}
	return sig, nil
}

// clip keeps what somebody else wrote short in an error.
func clip(s string) string { return s[:min(len(s), 64)] }
