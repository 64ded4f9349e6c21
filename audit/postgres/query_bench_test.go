package postgres

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"sega/audit/postgres/pgtest"
	"sega/audit/query"
	"sega/audit/store/storetest"
)

// benchLog opens a log with a year of a company's events: 100,000, or SEGA_BENCH_EVENTS. Where
// SEGA_BENCH_DIR names a folder, the server's cluster stays there for the next run.
func benchLog(b *testing.B) *Log {
	b.Helper()
	server(b) // or skip
	n := 100_000
	if s := os.Getenv("SEGA_BENCH_EVENTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	dir := os.Getenv("SEGA_BENCH_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "sega-bench-"+strconv.Itoa(os.Getpid()))
		b.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	s, err := pgtest.Run(dir, "shared_buffers=1GB", "max_wal_size=4GB")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	l := openTest(b, config(b, s.URL("postgres")))
	if _, tree := l.Head(); tree.N == 0 {
		start := time.Now()
		if err := storetest.Fill(b.Context(), l, storetest.NewGeneratorOf(1, n), n); err != nil {
			b.Fatal(err)
		}
		b.Logf("filled with %d events in %s", n, time.Since(start))
		if err := s.Exec(b.Context(), "postgres", `VACUUM ANALYZE`); err != nil {
			b.Fatal(err)
		}
	}
	waitIndexed(b, l)
	return l
}

// BenchmarkQuery reports the 95th percentile of the first page (100 events, newest first) of each
// filter, and of counts, in milliseconds. Budget: 100 ms by an index, 1 s for free text and counts.
func BenchmarkQuery(b *testing.B) {
	l := benchLog(b)
	p95 := func(b *testing.B, run func() error) {
		took := make([]time.Duration, 0, b.N)
		for b.Loop() {
			start := time.Now()
			if err := run(); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
	}
	now := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for _, text := range []string{"", "user:ada.berg@corp.example", "user:ada*", "kind:user.revoke", "kind:ssh.*", "role:" + storetest.RoleName(3), "host:" + storetest.HostName(7),
		"outcome:denied", "session:ssh_nothing", "since:7d", "since:2025-06-01 until:2025-06-02 outcome:denied", "user:nobody", "role:" + storetest.RoleName(3) + " outcome:denied",
		`"rm -rf"`, `"nowhere to be found"`, `"OPS-1"`, `reason:~incident kind:aws.assume`, "xq",
		"user:ada.berg@corp.example outcome:denied", "source:198.51.100.7", "source:203.0.113.1", "node:bastion-1", "policy:default-deny", "ticket:OPS-1*", "ticket:OPS-1234"} {
		x, err := query.Parse(text, now)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("search/"+text, func(b *testing.B) {
			found := 0
			p95(b, func() error {
				found = 0
				for _, err := range l.Search(b.Context(), query.Query{Where: x, After: -1, Limit: 100, Newest: true}) {
					if err != nil {
						return err
					}
					found++
				}
				return nil
			})
			b.ReportMetric(float64(found), "rows")
		})
	}
	for _, c := range []struct {
		text string
		by   []query.Dimension
	}{
		{"", nil}, {"", []query.Dimension{query.ByUser}}, {"", []query.Dimension{query.ByRole, query.ByDay}}, {"", []query.Dimension{query.ByUser, query.ByRole}},
		{"kind:aws.assume", []query.Dimension{query.ByUser, query.ByRole}}, {"since:2025-06-01T12:00:00Z until:2025-07-01T06:00:00Z", []query.Dimension{query.ByKind}},
		{"since:7d", []query.Dimension{query.ByHost}}, {"session:ssh_nothing", []query.Dimension{query.ByUser}},
	} {
		x, err := query.Parse(c.text, now)
		if err != nil {
			b.Fatal(err)
		}
		name := "count/" + c.text
		for _, d := range c.by {
			name += "," + string(d)
		}
		b.Run(name, func(b *testing.B) {
			p95(b, func() error {
				_, err := l.Count(b.Context(), query.Query{Where: x, After: -1}, c.by)
				return err
			})
		})
	}
}
