package softkey

import (
	"bytes"
	"context"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/softkms"
	"go.step.sm/crypto/pemutil"
	"golang.org/x/crypto/ssh"

	"sega/keychain/secret"
)

// MinPassphrase is the least number of bytes of a passphrase.
const MinPassphrase = 12

// What can be wrong with a key file.
var (
	ErrPassphrase  = errors.New("wrong passphrase, or a damaged file")
	ErrDamaged     = errors.New("the key is not the one of the file's first line: the file is damaged")
	ErrShort       = fmt.Errorf("passphrase of fewer than %d characters", MinPassphrase)
	ErrPlain       = errors.New("the key is not encrypted")
	ErrWeak        = errors.New("the key's encryption is too weak")
	ErrMalformed   = errors.New("want a line with the public key, then an encrypted PKCS#8 key in PEM form")
	ErrPermissions = errors.New("others can read the key file")
	ErrExists      = errors.New("the file exists already, and a key is never overwritten")
	ErrKind        = errors.New("no such kind of key")
	ErrIssuer      = errors.New("the key is of an issuer's kind (ECDSA P-256), and signs nothing of SSH")
)

// Kind is the algorithm of a new key.
type Kind string

// Kinds. Ed25519 unless somebody's rules ask for a NIST curve; ECDSAP256 is for the JWTs of an issuer (ES256).
const (
	Ed25519   Kind = "ed25519"
	ECDSAP256 Kind = "ecdsa-p256"
	ECDSAP384 Kind = "ecdsa-p384"
)

func (k Kind) algorithm() (apiv1.SignatureAlgorithm, error) {
	switch k {
	case Ed25519:
		return apiv1.PureEd25519, nil
	case ECDSAP256:
		return apiv1.ECDSAWithSHA256, nil
	case ECDSAP384:
		return apiv1.ECDSAWithSHA384, nil
	}
	return apiv1.UnspecifiedSignAlgorithm, fmt.Errorf("%w: %q; use %q", ErrKind, string(k), string(Ed25519))
}

// Create makes a key, writes it to path with mode 0600 and returns its public half. It never
// overwrites (ErrExists), and proves that what it wrote opens before the name appears.
func Create(path string, passphrase secret.Secret, kind Kind) (ssh.PublicKey, error) {
	pub, err := create(path, passphrase, kind)
	if err != nil {
		return nil, fmt.Errorf("create key %s: %w", path, err)
	}
	return pub, nil
}

func create(path string, passphrase secret.Secret, kind Kind) (ssh.PublicKey, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, ErrExists // early, to spare the derivation; writeNew decides
	}
	data, pub, err := generate(passphrase, kind)
	if err != nil {
		return nil, err
	}
	if err := writeNew(path, data); err != nil {
		return nil, err
	}
	return pub, nil
}

// Open reads the key of path and returns its signer for SSH. ErrIssuer where its kind is for JWTs: what AWS
// trusts and what bastions and hosts trust is never one key.
func Open(path string, passphrase secret.Secret) (ssh.Signer, error) {
	key, err := OpenSigner(path, passphrase)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromSigner(key)
	if err == nil && signer.PublicKey().Type() == ssh.KeyAlgoECDSA256 {
		err = ErrIssuer
	}
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", path, err)
	}
	return signer, nil
}

// OpenSigner reads the key of path and returns its signer for all that is not SSH.
func OpenSigner(path string, passphrase secret.Secret) (crypto.Signer, error) {
	data, err := readPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", path, err)
	}
	key, err := decrypt(data, passphrase)
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", path, err)
	}
	return key, nil
}

func generate(passphrase secret.Secret, kind Kind) ([]byte, ssh.PublicKey, error) {
	if len(passphrase.Reveal()) < MinPassphrase {
		return nil, nil, ErrShort // pemutil writes a plain key where the passphrase is empty
	}
	algorithm, err := kind.algorithm()
	if err != nil {
		return nil, nil, err
	}
	kms, err := softkms.New(context.Background(), apiv1.Options{})
	if err != nil {
		return nil, nil, err
	}
	created, err := kms.CreateKey(&apiv1.CreateKeyRequest{SignatureAlgorithm: algorithm})
	if err != nil {
		return nil, nil, fmt.Errorf("generate: %w", err)
	}
	return encrypt(created.PrivateKey, passphrase)
}

// encrypt returns the file's bytes and, read back from them, the public half.
func encrypt(key crypto.PrivateKey, passphrase secret.Secret) ([]byte, ssh.PublicKey, error) {
	block, err := pemutil.Serialize(key, pemutil.WithPKCS8(true), pemutil.WithPassword(passphrase.Reveal()))
	if err != nil {
		return nil, nil, errors.New("encrypt the new key") // the cause might print what it could not serialize
	}
	data, err := withPublicKey(key, pem.EncodeToMemory(block))
	if err != nil {
		return nil, nil, err
	}
	signer, err := decrypt(data, passphrase)
	if err != nil {
		return nil, nil, fmt.Errorf("read back the new key: %w", err)
	}
	pub, err := ssh.NewPublicKey(signer.Public())
	return data, pub, err
}

func withPublicKey(key crypto.PrivateKey, block []byte) ([]byte, error) {
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: a key that SSH does not know", ErrKind)
	}
	return append(ssh.MarshalAuthorizedKey(signer.PublicKey()), block...), nil
}

func decrypt(data []byte, passphrase secret.Secret) (crypto.Signer, error) {
	line, block, _ := bytes.Cut(data, []byte("\n"))
	if err := checkEncryption(block); err != nil {
		return nil, err
	}
	signer, err := decryptBlock(block, passphrase)
	if err != nil {
		return nil, err
	}
	pub, err := ssh.NewPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("%w: a key that SSH does not know", ErrMalformed)
	}
	if want := bytes.TrimSpace(ssh.MarshalAuthorizedKey(pub)); !bytes.Equal(bytes.TrimSpace(line), want) {
		return nil, ErrDamaged
	}
	return signer, nil
}

func decryptBlock(block []byte, passphrase secret.Secret) (crypto.Signer, error) {
	if passphrase.Empty() {
		return nil, ErrPassphrase // without one pemutil would ask on the terminal or fail unclearly
	}
	kms, err := softkms.New(context.Background(), apiv1.Options{})
	if err != nil {
		return nil, err
	}
	// A wrong passphrase shows as bad padding or, one time in 256, as noise that is no PKCS#8: both
	// are one answer.
	key, err := kms.CreateSigner(&apiv1.CreateSignerRequest{SigningKeyPEM: block, Password: passphrase.Reveal()})
	if err != nil {
		return nil, ErrPassphrase
	}
	return key, nil
}
