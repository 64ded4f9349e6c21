package sqlite

import (
	"context"
	"os"
	"testing"

	"sega/audit"
	"sega/audit/store/storetest"
)

// soak asks for every repetition; without it each kind of fault has a few.
var soak = os.Getenv("SEGA_SOAK") == "1"

// testKey is a log key that is the same in every process, so that a child of a test writes a log
// that the test can open.
func testKey(tb testing.TB) *audit.LogKey {
	tb.Helper()
	return storetest.Key(tb, "tests of audit/sqlite")
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
