package sqlite

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"sega/audit/store/storetest"

	"sega/audit/store/backend"
)

// warned is a log handler that tells when a text was warned of.
type warned struct {
	slog.Handler
	what string
	told chan struct{}
}

func (h warned) Enabled(context.Context, slog.Level) bool { return true }

func (h warned) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, h.what) {
		select {
		case h.told <- struct{}{}:
		default:
		}
	}
	return nil
}

// TestTextFull lets the index's file grow no more: it keeps what it has, and the log goes on.
func TestTextFull(t *testing.T) {
	h := warned{slog.DiscardHandler, "the text index does not follow", make(chan struct{}, 1)}
	l := openTest(t, Config{Path: filepath.Join(t.TempDir(), "audit.db"), Options: backend.Options{Log: slog.New(h)}})
	g := storetest.NewGenerator(6)
	events := g.Events(200)
	if _, err := l.Append(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	settle(t, l)
	var held []*sql.Conn
	for range textConns { // all of the pool, before one is given back
		c, err := l.text.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		if _, err := c.ExecContext(t.Context(), `PRAGMA max_page_count = 1`); err != nil { // as many as there are
			t.Fatal(err)
		}
	}
	for _, c := range held {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	more := g.Events(5000)
	if _, err := l.Append(t.Context(), more, nil); err != nil {
		t.Fatal(err)
	}
	events = append(events, more...)
	<-h.told
	checkTexts(t, l, events, fewTexts())
	if covered := l.text.upTo.Load(); covered < 200 || covered >= int64(len(events)) || l.text.bad.Load() {
		t.Errorf("the index covers %d of %d events", covered, len(events))
	}
}
