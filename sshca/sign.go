package sshca

import (
	"crypto/rand"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// Sign lints cert against the profile and signs it with ca: it sets Nonce, SignatureKey and
// Signature. A certificate that fails stays unsigned. An RSA key signs with rsa-sha2-512 alone.
func Sign(cert *ssh.Certificate, profile Profile, ca ssh.Signer) error {
	if err := Lint(cert, profile); err != nil {
		return err
	}
	ca, err := authority(ca)
	if err != nil {
		return err
	}
	if sameKey(cert.Key, ca.PublicKey()) {
		return fmt.Errorf("%w: a CA does not certify its own key", ErrKey)
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		cert.Signature = nil
		return fmt.Errorf("%w a %s certificate: %w", ErrSigner, profile, err)
	}
	if got, want := cert.Signature.Format, signatureAlgorithm(ca.PublicKey()); got != want {
		cert.Signature = nil
		return fmt.Errorf("%w: the signer used %q, not %q", ErrAlgorithm, got, want)
	}
	return nil
}

// TrySigner has a CA's key sign a few bytes that are no certificate, and verifies what comes.
func TrySigner(ca ssh.Signer) error {
	ca, err := authority(ca)
	if err != nil {
		return err
	}
	// A certificate begins with the length of its type's name: these bytes are none, whoever keeps the signature.
	probe := []byte("sega: does this key sign? " + rand.Text())
	signature, err := ca.Sign(rand.Reader, probe)
	if err == nil {
		err = ca.PublicKey().Verify(probe, signature)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSigner, err)
	}
	return nil
}

// authority returns ca, restricted to the algorithm that we want of it.
func authority(ca ssh.Signer) (ssh.Signer, error) {
	if ca == nil {
		return nil, fmt.Errorf("%w: no CA key", ErrKey)
	}
	pub := ca.PublicKey()
	if _, ok := pub.(*ssh.Certificate); ok {
		return nil, fmt.Errorf("%w: use the plain CA key", ErrNestedCA)
	}
	if err := CheckKey(pub); err != nil {
		return nil, fmt.Errorf("CA key: %w", err)
	}
	if pub.Type() != ssh.KeyAlgoRSA {
		return ca, nil
	}
	s, ok := ca.(ssh.AlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("%w: this RSA signer knows SHA-1 alone", ErrAlgorithm)
	}
	restricted, err := ssh.NewSignerWithAlgorithms(s, []string{ssh.KeyAlgoRSASHA512})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	return restricted, nil
}
