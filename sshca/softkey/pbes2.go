package softkey

import (
	"bytes"
	"crypto/aes"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"strings"
)

// Bounds of PBKDF2's rounds: OWASP's figure for HMAC-SHA-256, and what a start may cost at most.
const (
	minRounds = 600_000
	maxRounds = 20_000_000
	minSalt   = 16
)

// pemType is the label of RFC 7468 §11.
const pemType = "ENCRYPTED PRIVATE KEY"

// The structures of RFC 5958 §3 and RFC 8018 appendix A.
type (
	encryptedKey struct {
		Algorithm struct {
			ID     asn1.ObjectIdentifier
			Params pbes2
		}
		Data []byte
	}
	pbes2 struct {
		KDF struct {
			ID     asn1.ObjectIdentifier
			Params pbkdf2
		}
		Cipher struct {
			ID asn1.ObjectIdentifier
			IV []byte
		}
	}
	pbkdf2 struct {
		Salt   []byte
		Rounds int
		KeyLen int `asn1:"optional"`
		PRF    prf `asn1:"optional"`
	}
	prf struct {
		ID   asn1.ObjectIdentifier
		Null asn1.RawValue `asn1:"optional"`
	}
)

// checkEncryption refuses a file before anything is derived from the passphrase: plain keys, DES,
// AES-128, SHA-1, few rounds, and the lengths at which a CBC decrypter panics.
func checkEncryption(data []byte) error {
	block, rest := pem.Decode(data)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 || !bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		return fmt.Errorf("%w: want exactly one block", ErrMalformed)
	}
	if block.Type != pemType {
		return wrongType(block)
	}
	if len(block.Headers) > 0 {
		return fmt.Errorf("%w: headers in the block", ErrMalformed)
	}
	var k encryptedKey
	if rest, err := asn1.Unmarshal(block.Bytes, &k); err != nil || len(rest) > 0 {
		return fmt.Errorf("%w: not PBES2 with PBKDF2", ErrMalformed)
	}
	return k.check()
}

func wrongType(block *pem.Block) error {
	switch {
	case block.Headers["Proc-Type"] == "4,ENCRYPTED":
		return fmt.Errorf("%w: RFC 1421 encryption; create the key with segad ca", ErrWeak)
	case block.Type == "OPENSSH PRIVATE KEY":
		return fmt.Errorf("%w: OpenSSH's own form; create the key with segad ca", ErrMalformed)
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return fmt.Errorf("%w; create the key with segad ca", ErrPlain)
	}
	return fmt.Errorf("%w: %q", ErrMalformed, block.Type)
}

func (k encryptedKey) check() error {
	kdf, cipher := k.Algorithm.Params.KDF, k.Algorithm.Params.Cipher
	switch {
	case !k.Algorithm.ID.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}): // PBES2
		return fmt.Errorf("%w: not PBES2", ErrWeak)
	case !kdf.ID.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}): // PBKDF2
		return fmt.Errorf("%w: not PBKDF2", ErrWeak)
	case !kdf.Params.PRF.ID.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}): // HMAC-SHA-256
		return fmt.Errorf("%w: PBKDF2 without HMAC-SHA-256", ErrWeak)
	case !cipher.ID.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}): // AES-256-CBC
		return fmt.Errorf("%w: not AES-256", ErrWeak)
	case kdf.Params.Rounds < minRounds || kdf.Params.Rounds > maxRounds:
		return fmt.Errorf("%w: %d PBKDF2 rounds, %d to %d allowed", ErrWeak, kdf.Params.Rounds, minRounds, maxRounds)
	case len(kdf.Params.Salt) < minSalt:
		return fmt.Errorf("%w: salt of %d bytes", ErrWeak, len(kdf.Params.Salt))
	case len(cipher.IV) != aes.BlockSize || len(k.Data) == 0 || len(k.Data)%aes.BlockSize != 0:
		return fmt.Errorf("%w: cut off", ErrMalformed)
	}
	return nil
}
