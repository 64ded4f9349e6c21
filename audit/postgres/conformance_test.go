package postgres

import (
	"testing"

	"sega/audit/store"
	"sega/audit/store/storetest"
)

func TestConformance(t *testing.T) {
	s := server(t)
	var url string
	cfg := func(t *testing.T) Config {
		c := config(t, url)
		c.MaxBatch, c.foldParts = 48, 2
		return c
	}
	storetest.Run(t, storetest.Backend{
		Verifier: testKey(t).Verifier(),
		Open: func(t *testing.T) store.Log {
			url = s.URL(s.NewDatabase(t))
			return openTest(t, cfg(t))
		},
		Reopen: func(t *testing.T, l store.Log) store.Log {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return openTest(t, cfg(t))
		},
	})
}
