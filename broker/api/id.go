package api

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"strings"

	"sega/keychain/secret"
)

// Prefixes of IDs.
const (
	IDLogin   = "ses_"
	IDSSH     = "ssh_"
	IDMachine = "mch_"
	IDKey     = "key_"
)

const (
	idAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"
	idLength   = 20
)

var idEncoding = base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding)

// NewID returns prefix and 100 random bits as 20 lower-case letters and digits.
func NewID(prefix string) string {
	b := make([]byte, 13)
	rand.Read(b)
	return prefix + idEncoding.EncodeToString(b)[:idLength]
}

// IsID reports whether s has the form of what NewID returns for prefix.
func IsID(prefix, s string) bool {
	id, ok := strings.CutPrefix(s, prefix)
	return ok && len(id) == idLength && strings.Trim(id, idAlphabet) == ""
}

// NewToken returns prefix and 32 random bytes, base64url.
func NewToken(prefix string) secret.Secret {
	b := make([]byte, 32)
	rand.Read(b)
	return secret.FromString(prefix + base64.RawURLEncoding.EncodeToString(b))
}
