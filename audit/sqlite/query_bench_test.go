package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"sega/audit/query"
	"sega/audit/store/storetest"
)

// benchLog is a log of 100,000 generated events whose text index covers it.
func benchLog(b *testing.B) *Log {
	b.Helper()
	const n = 100_000
	l := openTest(b, Config{Path: filepath.Join(b.TempDir(), "audit.db")})
	if err := storetest.Fill(context.Background(), l, storetest.NewGeneratorOf(1, n), n); err != nil {
		b.Fatal(err)
	}
	if err := l.Indexed(context.Background(), n); err != nil {
		b.Fatal(err)
	}
	return l
}

func parsed(b *testing.B, text string) query.Expr {
	b.Helper()
	x, err := query.Parse(text, time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		b.Fatal(err)
	}
	return x
}

// BenchmarkSearch reads the first and the newest page of 100 rows.
func BenchmarkSearch(b *testing.B) {
	l := benchLog(b)
	for _, text := range []string{"", "user:ada.abel@corp.example", "user:nobody@corp.example", "host:web-7.prod.corp.example", "kind:session.*", "outcome:denied",
		"since:30d", "outcome:denied role:billing-*", `"rm -rf"`, "OPS-1234"} {
		for _, newest := range []bool{false, true} {
			b.Run(map[bool]string{false: "first/", true: "newest/"}[newest]+text, func(b *testing.B) {
				q := query.Query{Where: parsed(b, text), After: -1, Limit: 100, Newest: newest}
				for b.Loop() {
					for _, err := range l.Search(context.Background(), q) {
						if err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

// BenchmarkCount counts the whole log.
func BenchmarkCount(b *testing.B) {
	l := benchLog(b)
	for name, c := range map[string]struct {
		text string
		by   []query.Dimension
	}{
		"role,day": {"", []query.Dimension{query.ByRole, query.ByDay}}, "user": {"", []query.Dimension{query.ByUser}},
		"user,role": {"", []query.Dimension{query.ByUser, query.ByRole}}, "kind since 30d": {"since:30d", []query.Dimension{query.ByKind}},
		"user of a text": {"outage", []query.Dimension{query.ByUser}},
	} {
		b.Run(name, func(b *testing.B) {
			q := query.Query{Where: parsed(b, c.text), After: -1}
			for b.Loop() {
				if _, err := l.Count(context.Background(), q, c.by); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
