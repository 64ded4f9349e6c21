package sqlite

import (
	"path/filepath"
	"testing"

	"sega/audit/store"
	"sega/audit/store/storetest"
)

func TestConformance(t *testing.T) {
	var path string
	cfg := func() Config { return Config{Path: path, Schema: []string{storetest.Schema}, MaxBatch: 48} }
	storetest.Run(t, storetest.Backend{
		Verifier: testKey(t).Verifier(),
		Open: func(t *testing.T) store.Log {
			path = filepath.Join(t.TempDir(), "a?b#c%41.db")
			return openTest(t, cfg())
		},
		Reopen: func(t *testing.T, l store.Log) store.Log {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return openTest(t, cfg())
		},
	})
}
