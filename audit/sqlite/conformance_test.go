package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/audit/store/storetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	var path string
	cfg := func() Config {
		return Config{Path: path, Options: backend.Options{Schema: []string{storetest.Schema}, MaxBatch: 48}}
	}
	storetest.Run(t, storetest.Backend{
		Verifier: testKey(t).Verifier(),
		Open: func(t *testing.T) store.Log {
			path = filepath.Join(t.TempDir(), "a?b#c%41.db")
			return openTest(t, cfg())
		},
		Settle: func(t *testing.T, l store.Log) { settle(t, l.(*Log)) },
		Reopen: func(t *testing.T, l store.Log) store.Log {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return openTest(t, cfg())
		},
	})
}

// settle waits until the text index covers the log.
func settle(t *testing.T, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, tree := l.Head()
	if err := l.Indexed(ctx, tree.N); err != nil {
		t.Fatalf("the text index does not catch up: %v", err)
	}
}
