package idp

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// Nonce binds a login to one key and one broker: base64url without padding of SHA-256 over the
// three parts, each preceded by its length in bytes as a big-endian uint32, so that no two
// different triples hash the same input.
//
// thumbprint is the RFC 7638 thumbprint of the DPoP key (base64url text, as in cnf.jkt), origin
// the broker's origin ("https://sega.corp.example"): the client takes the one it dialled, the
// broker the one it is configured with. random is 32 fresh bytes that travel with the ID token.
func Nonce(thumbprint, origin string, random []byte) string {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(thumbprint), []byte(origin), random} {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
