package postgres

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"

	"sega/audit"
	"sega/audit/postgres/pgtest"
	"sega/audit/query"
)

// TestTextHole: blocks of the text index that another process was seen to have written may be lost with the
// server, as nobody waits for their way to the disk. No block is written behind ones that are missing.
func TestTextHole(t *testing.T) {
	s := pgtest.Start(t, "wal_writer_delay=10s")
	url := s.URL(s.NewDatabase(t))
	one := openTest(t, config(t, url))
	var crash atomic.Bool
	two, err := open(t.Context(), config(t, url), func(ctx context.Context, network, addr string) (net.Conn, error) {
		if crash.CompareAndSwap(true, false) {
			if err := errors.Join(s.Kill(), s.Restart()); err != nil {
				t.Error(err)
			}
		}
		return dialer(ctx, network, addr)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	for _, l := range []*Log{one, two} { // the test does what their indexers would
		l.cancel()
		l.aside.Wait()
	}
	var events []audit.Event
	for i := range 2 * audit.SegmentSize {
		e := testEvent(i)
		e.Reason = "what somebody writes"
		events = append(events, e)
	}
	if _, err := one.Append(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	var c1, c2 *stdlib.Conn
	if err := one.connectAside(t.Context(), &c1); err != nil {
		t.Fatal(err)
	}
	defer c1.Close()
	if err := one.indexSegment(t.Context(), c1, 0); err != nil { // one is between two segments
		t.Fatal(err)
	}
	crash.Store(true)
	if err := two.indexAll(t.Context(), &c2); err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	if crash.Load() {
		t.Error("the server did not crash")
	}
	found := 0
	for _, err := range two.Search(t.Context(), query.Query{After: -1, Where: query.Text{Value: "somebody"}}) {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	if found != len(events) {
		t.Errorf("found %d of %d events", found, len(events))
	}
}
