package postgres

import (
	"testing"

	"sega/audit/postgres/pgtest"
	"sega/audit/store"
	"sega/audit/store/storetest"
)

// BenchmarkAppend: budget (2 cores, the server on them too) 12,000/s with p99 25 ms at 256 writers.
func BenchmarkAppend(b *testing.B) {
	s := pgtest.Start(b, "min_wal_size=1GB")
	if err := s.Warm(b.Context()); err != nil {
		b.Fatal(err)
	}
	storetest.BenchmarkAppend(b, func(b *testing.B) store.Log {
		return openTest(b, config(b, s.URL(s.NewDatabase(b))))
	})
}
