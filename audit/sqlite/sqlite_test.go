package sqlite

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"sega/audit"
)

// soak asks for every repetition; without it each kind of fault has a few.
var soak = os.Getenv("SEGA_SOAK") == "1"

// testKey is a log key that is the same in every process, so that a child of a test writes a log
// that the test can open.
func testKey(tb testing.TB) *audit.LogKey {
	tb.Helper()
	const origin = "log.corp.example/audit"
	seed := sha256.Sum256([]byte("tests of audit/sqlite"))
	vkey, err := note.NewEd25519VerifierKey(origin, ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey))
	if err != nil {
		tb.Fatal(err)
	}
	hash := strings.Split(vkey, "+")[1]
	key, err := audit.ParseLogKey([]byte("PRIVATE+KEY+" + origin + "+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed[:]...))))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// tryOpen opens a log with the test key.
func tryOpen(tb testing.TB, cfg Config) (*Log, error) {
	key := testKey(tb)
	cfg.Signer, cfg.Verifier = key, key.Verifier()
	return Open(context.Background(), cfg)
}

// openTest is tryOpen, and closes the log when the test ends.
func openTest(tb testing.TB, cfg Config) *Log {
	tb.Helper()
	l, err := tryOpen(tb, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}
