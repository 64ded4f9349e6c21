package keychain

import (
	"crypto/rand"
	"encoding/base64"
	"errors"

	"golang.org/x/crypto/argon2"

	"sega/keychain/secret"
)

// kdf are the parameters of Argon2id (RFC 9106). New files get the second recommended option of
// its section 4: three passes over 64 MiB in four lanes, about a tenth of a second.
type kdf struct {
	Passes  uint32 `json:"passes"`
	MemKiB  uint32 `json:"mem_kib"`
	Lanes   uint8  `json:"lanes"`
	SaltB64 string `json:"salt"` // 16 bytes, base64
}

func newKDF() *kdf {
	salt := make([]byte, 16)
	rand.Read(salt)
	return &kdf{Passes: 3, MemKiB: 64 << 10, Lanes: 4, SaltB64: base64.StdEncoding.EncodeToString(salt)}
}

// validate bounds what a header may make this machine do: a GiB and 16 passes at the most, and
// no less than what new files get, so that a file made weak on purpose is not taken.
func (k *kdf) validate() error {
	salt, err := base64.StdEncoding.Strict().DecodeString(k.SaltB64)
	switch {
	case err != nil || len(salt) != 16:
		return errors.New("the salt is not 16 bytes in base64")
	case k.Passes < 3 || k.Passes > 16, k.MemKiB < 64<<10 || k.MemKiB > 1<<20, k.Lanes < 1 || k.Lanes > 16:
		return errors.New("the parameters of Argon2id are out of bounds")
	}
	return nil
}

func (k *kdf) derive(passphrase secret.Secret) (secret.Secret, error) {
	salt, err := base64.StdEncoding.DecodeString(k.SaltB64)
	if err != nil {
		return secret.Secret{}, errors.New("the salt is not base64")
	}
	key := argon2.IDKey(passphrase.Reveal(), salt, k.Passes, k.MemKiB, k.Lanes, keySize)
	defer clear(key)
	return secret.New(key), nil
}
