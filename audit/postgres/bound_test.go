package postgres

import (
	"testing"

	"sega/audit"
	"sega/audit/query"
)

// TestSearchEnds: a search ends where the log ended when it began, however fast the log grows.
func TestSearchEnds(t *testing.T) {
	const had = firstRows + 20
	l := openTest(t, config(t, server(t).URL(server(t).NewDatabase(t))))
	events := make([]audit.Event, had)
	for i := range events {
		events[i] = testEvent(i)
	}
	if _, err := l.Append(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range l.Search(t.Context(), query.Query{After: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n <= 2*had {
			appendN(t, l, had+n, 1)
		}
	}
	if n != had {
		t.Errorf("%d events, want the %d of the beginning", n, had)
	}
}
