package recording

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"reflect"
)

const ratchetInfo = "sega recording ratchet v1"

// ratchet is the key of one segment; step turns it into that of the next and leaves no way back.
type ratchet struct {
	key  [32]byte
	aead cipher.AEAD
}

func newRatchet(key [32]byte) (*ratchet, error) {
	r := &ratchet{key: key}
	return r, r.expand()
}

// randomRatchet makes the ratchet of a new recording. crypto/rand does not fail.
func randomRatchet() (*ratchet, error) {
	var key [32]byte
	rand.Read(key[:])
	defer clear(key[:])
	return newRatchet(key)
}

func (r *ratchet) expand() error {
	block, err := aes.NewCipher(r.key[:])
	if err != nil {
		return fmt.Errorf("recording: segment key: %w", err)
	}
	defer wipe(block) // NewGCM works on a copy
	if r.aead, err = cipher.NewGCM(block); err != nil {
		return fmt.Errorf("recording: segment key: %w", err)
	}
	return nil
}

// step replaces the key by its successor and overwrites the old one with everything made of it.
func (r *ratchet) step() error {
	r.key = expandKey(r.key)
	wipe(r.aead)
	return r.expand()
}

// wipe forgets the key; the ratchet cannot be used afterwards.
func (r *ratchet) wipe() {
	clear(r.key[:])
	wipe(r.aead)
	r.aead = nil
}

// expandKey is HKDF-Expand-SHA256(key, ratchetInfo, 32) of RFC 5869, one block and hence
// HMAC(key, info ‖ 1). It works on arrays of its own that it clears, because crypto/hkdf and
// crypto/hmac leave the padded key behind in heap memory that nobody can reach to wipe.
func expandKey(key [32]byte) [32]byte {
	const block = sha256.BlockSize
	var inner [block + len(ratchetInfo) + 1]byte
	var outer [block + sha256.Size]byte
	defer clear(inner[:])
	defer clear(outer[:])
	for i := range block {
		inner[i], outer[i] = 0x36, 0x5c
	}
	for i, k := range key {
		inner[i] ^= k
		outer[i] ^= k
	}
	copy(inner[block:], ratchetInfo)
	inner[len(inner)-1] = 1
	sum := sha256.Sum256(inner[:])
	copy(outer[block:], sum[:])
	return sha256.Sum256(outer[:])
}

// wipe overwrites the struct behind a cipher. The library offers no method for it, and a dropped
// key schedule would stay in memory until that is allocated again.
func wipe(c any) {
	if v := reflect.ValueOf(c); v.Kind() == reflect.Pointer && !v.IsNil() {
		v.Elem().SetZero()
	}
}
