package storetest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"sega/audit"
)

// Key is a log key that is the same in every process for one seed, so that a child of a test writes a
// log that the test can open.
func Key(tb testing.TB, seed string) *audit.LogKey {
	tb.Helper()
	const origin = "log.corp.example/audit"
	sum := sha256.Sum256([]byte(seed))
	vkey, err := note.NewEd25519VerifierKey(origin, ed25519.NewKeyFromSeed(sum[:]).Public().(ed25519.PublicKey))
	if err != nil {
		tb.Fatal(err)
	}
	hash := strings.Split(vkey, "+")[1]
	key, err := audit.ParseLogKey([]byte("PRIVATE+KEY+" + origin + "+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, sum[:]...))))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// ErrSigner is what a FailingKey fails with.
var ErrSigner = errors.New("storetest: the signer fails")

// FailingKey fails now and then, as a key service may.
type FailingKey struct {
	*audit.LogKey
	Fail atomic.Bool
}

// Sign implements note.Signer.
func (s *FailingKey) Sign(msg []byte) ([]byte, error) {
	if s.Fail.Load() {
		return nil, ErrSigner
	}
	return s.LogKey.Sign(msg)
}
