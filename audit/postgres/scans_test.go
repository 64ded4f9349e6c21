package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
	"sega/audit/store/backend"
)

// TestPageBytes: pages of large events are short, and nothing is lost at their ends.
func TestPageBytes(t *testing.T) {
	l := openTest(t, config(t, server(t).URL(server(t).NewDatabase(t))))
	var events []audit.Event
	for i := range audit.SegmentSize + 30 {
		e := testEvent(i)
		if i%audit.SegmentSize < 80 || i > 2000 {
			e = withDetails(e, fmt.Sprintf(`{"command":"needle%d %s"}`, i, strings.Repeat("x", 150<<10)))
			e.Kind = audit.KindSessionCommand
		}
		events = append(events, e)
	}
	if _, err := l.Append(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Indexed(t.Context(), int64(len(events))); err != nil {
		t.Fatal(err)
	}
	page, whole, err := l.page(t.Context(), `SELECT `+sqlRowList+` FROM events ORDER BY idx`)
	size := 0
	for _, row := range page {
		size += len(row.Body) + len(row.Details)
	}
	if err != nil || whole || size > backend.PageBytes+audit.MaxDetails+4096 || size < backend.PageBytes {
		t.Errorf("a page of %d rows and %d bytes, whole: %v, %v", len(page), size, whole, err)
	}
	next := int64(0)
	for row, err := range l.Rows(t.Context(), 0, int64(len(events))) {
		if err != nil || row.Index != next {
			t.Fatalf("row %d, want %d: %v", row.Index, next, err)
		}
		next++
	}
	if next != int64(len(events)) {
		t.Errorf("%d rows", next)
	}
	for name, x := range map[string]query.Expr{"text": query.Text{Value: "needle"}, "kind": query.Field{Name: query.Kind, Value: audit.KindSessionCommand}, "not": query.Not{X: query.Text{Value: "nothing"}}} {
		for _, newest := range []bool{false, true} {
			var want, got []int64
			for i, e := range events {
				if x.Match(e) {
					want = append(want, int64(i))
				}
			}
			if newest {
				slices.Reverse(want)
			}
			for row, err := range l.Search(t.Context(), query.Query{After: -1, Where: x, Newest: newest, Intents: true}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, row.Index)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, newest first: %v: %d of %d", name, newest, len(got), len(want))
			}
		}
	}
}

// TestBlockText: what is gathered of a block is bounded.
func TestBlockText(t *testing.T) {
	b := blockText{seen: map[string]bool{}}
	held := 0
	for i := range 64 {
		b.line([]byte(fmt.Sprint(i, strings.Repeat("x", 128<<10))))
		now := 0
		for line := range b.seen {
			now += len(line)
		}
		held = max(held, now)
	}
	if held > maxBlockText || b.text() != nil {
		t.Errorf("it held %d bytes", held)
	}
}

// TestStatementTime: no statement of a reader runs for ever, and one that was cut short says so.
func TestStatementTime(t *testing.T) {
	l := openTest(t, config(t, server(t).URL(server(t).NewDatabase(t))))
	for name, c := range map[string]struct {
		db   *sql.DB
		want time.Duration
	}{"state": {l.reads, readTime}, "scans": {l.scans.db, scanTime}} {
		var got int64
		if err := c.db.QueryRowContext(t.Context(), `SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout'`).Scan(&got); err != nil || got != c.want.Milliseconds() {
			t.Errorf("%s: statement_timeout is %d ms, %v", name, got, err)
		}
	}
	err := l.Read(t.Context(), func(ctx context.Context, q store.Querier) error {
		if _, err := q.ExecContext(ctx, `SET LOCAL statement_timeout = 50`); err != nil {
			return err
		}
		_, err := q.ExecContext(ctx, `SELECT pg_sleep(30)`)
		return err
	})
	if !errors.Is(err, store.ErrUnreadable) || !strings.Contains(err.Error(), "statement_timeout") {
		t.Errorf("got %v", err)
	}
}

// TestTurns: with every connection taken, a search waits until its context ends; state is read all the same.
func TestTurns(t *testing.T) {
	cfg := config(t, server(t).URL(server(t).NewDatabase(t)))
	cfg.Scans = 1
	l := openTest(t, cfg)
	if _, err := l.Append(t.Context(), []audit.Event{testEvent(1)}, nil); err != nil {
		t.Fatal(err)
	}
	err := l.scan(t.Context(), func(context.Context, *sql.Tx) error {
		no := errors.New("no longer wanted")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(20*time.Millisecond, func() { cancel(no) })
		for _, err := range l.Search(ctx, query.All()) {
			if !errors.Is(err, no) {
				t.Errorf("search: %v", err)
			}
		}
		_, err := l.Count(ctx, query.All(), nil)
		if !errors.Is(err, no) {
			t.Errorf("count: %v", err)
		}
		return l.Read(t.Context(), func(context.Context, store.Querier) error { return nil })
	})
	if err != nil {
		t.Error(err)
	}
}
