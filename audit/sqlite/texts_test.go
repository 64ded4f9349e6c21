package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store/storetest"
)

// TestTextEnds: what stands at either end of a text is found in the index as it is in the rows.
func TestTextEnds(t *testing.T) {
	l := openTest(t, Config{Path: filepath.Join(t.TempDir(), "audit.db")})
	var events []audit.Event
	for i, s := range []string{"\nfoo", "foo\n", "\n\n\n", "\n", "foo", "\x00foo\x00", " foo\t"} {
		reason, ticket, command := testEvent(3*i), testEvent(3*i+1), testEvent(3*i+2)
		reason.Reason, ticket.Ticket = s, s
		command.Kind = audit.KindSessionCommand
		var err error
		if command.Details, err = json.Marshal(map[string]string{"command": s}); err != nil {
			t.Fatal(err)
		}
		events = append(events, reason, ticket, command)
	}
	if _, err := l.Append(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	settle(t, l)
	for _, s := range []string{"\nfoo", "foo\n", "oo\n", "\nfo", "\n\n\n", "\n\n", "\x00fo", "oo\x00", " fo", "o\t"} {
		for _, x := range []query.Expr{query.Text{Value: s}, query.Field{Name: query.Reason, Op: query.Contains, Value: s}, query.Field{Name: query.Ticket, Value: s}} {
			if diff := cmp.Diff(wanted(events, x), found(t, l, x)); diff != "" {
				t.Errorf("%#v: %s", x, diff)
			}
		}
	}
}

// TestTextReplaced searches through an index that is built anew meanwhile, by this process and by another.
func TestTextReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	l, events := textLog(t, path)
	defer l.Close()
	x := query.Text{Value: "outage"}
	want := wanted(events, x)
	view := l.text.view()
	l.text.breaks()
	l.text.appended()
	settle(t, l)
	if ids, err := view.find(t.Context(), textPieces(x.Value), 0, int64(len(events))); err == nil && l.text.view().era == view.era {
		t.Errorf("an index that has gone answers with %d events", len(ids))
	}
	view = l.text.view()
	for _, suffix := range []string{"", "-wal", "-shm"} { // as another process does
		if err := os.Remove(path + textSuffix + suffix); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	db, err := openText(t.Context(), path+textSuffix)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for range 2 * textConns { // old connections and new ones
		c, err := view.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if diff := cmp.Diff(want, found(t, l, x)); diff != "" {
			t.Fatal(diff)
		}
		if l.text.view().era != view.era {
			break
		}
	}
	if l.text.bad.Load() {
		t.Error("the other's index was taken for broken")
	}
	settle(t, l)
	checkTexts(t, l, events, fewTexts())
}

// TestTextRebuiltMeanwhile breaks the index again and again under searches.
func TestTextRebuiltMeanwhile(t *testing.T) {
	l, events := textLog(t, filepath.Join(t.TempDir(), "audit.db"))
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			l.text.breaks()
			l.text.appended()
			_ = l.Indexed(ctx, int64(len(events)))
		}
	}()
	x := query.Or{query.Text{Value: "outage"}, query.Text{Value: "ops-"}, query.Text{Value: "select"}, query.Text{Value: "rm -rf"}}
	want := wanted(events, x)
	rounds := 10
	if soak {
		rounds = 100
	}
	for range rounds {
		if diff := cmp.Diff(want, found(t, l, x)); diff != "" {
			t.Error(diff)
			break
		}
	}
	cancel()
	<-done
}

// TestTextOfDamagedRows: neither an event that is late nor one that cannot be read is passed over.
func TestTextOfDamagedRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	l, events := textLog(t, path)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + textSuffix); err != nil {
		t.Fatal(err)
	}
	x := query.Text{Value: "outage"}
	want := wanted(events, x)
	late, broken := want[3], want[5]
	meddle(t, path, fmt.Sprintf(`CREATE TABLE aside AS SELECT * FROM events WHERE idx = %d; DELETE FROM events WHERE idx = %[1]d`, late))
	meddle(t, path, fmt.Sprintf(`UPDATE events SET body = replace(body, '"ticket":', '"tickeT":') WHERE idx = %d`, broken))
	l, err := tryOpen(t, Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for to := int64(1); to <= late; to++ {
		if err := l.Indexed(t.Context(), to); err != nil {
			t.Fatal(err)
		}
	}
	if got := l.text.upTo.Load(); got != late {
		t.Fatalf("the index covers %d events, of which %d is missing", got, late)
	}
	meddle(t, path, `INSERT INTO events SELECT * FROM aside`)
	l.text.appended()
	if err := l.text.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	settle(t, l)
	if l.text.bad.Load() {
		t.Error("the index was taken for broken")
	}
	var got []int64
	for row, err := range l.Search(t.Context(), query.Query{After: -1, Where: x, Intents: true}) {
		if err != nil {
			if !strings.Contains(err.Error(), fmt.Sprintf("event %d", broken)) {
				t.Fatal(err)
			}
			break
		}
		got = append(got, row.Index)
	}
	if diff := cmp.Diff(want[:5], got); diff != "" { // and then the one that cannot be read
		t.Error(diff)
	}
}

// TestTextKeptWhenLogFails: that the log cannot be read says nothing of the index.
func TestTextKeptWhenLogFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	l, events := textLog(t, path)
	before, err := os.Stat(path + textSuffix)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	meddle(t, path, `UPDATE tree SET chunk = -1 WHERE chunk = 3`)
	if l, err = tryOpen(t, Config{Path: path}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	x := query.Text{Value: "outage"}
	if diff := cmp.Diff(wanted(events, x), found(t, l, x)); diff != "" {
		t.Error(diff)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path + textSuffix); err != nil || !os.SameFile(before, after) {
		t.Errorf("the index was thrown away: %v", err)
	}
}

// TestTextBatchBytes: much text is indexed little by little.
func TestTextBatchBytes(t *testing.T) {
	l := openTest(t, Config{Path: filepath.Join(t.TempDir(), "audit.db")})
	g := storetest.NewGenerator(8)
	events := g.Events(200)
	for i := range events {
		events[i].Kind = audit.KindSessionCommand
		events[i].Details = json.RawMessage(`{"command":"` + strings.Repeat("x", 120<<10) + fmt.Sprint(" end", i) + `"}`)
	}
	if _, err := l.Append(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	texts, to, err := l.text.texts(t.Context(), 0, 200)
	size := 0
	for _, x := range texts {
		size += len(x.text)
	}
	if err != nil || to >= 200 || to < 1 || size > textBytes+audit.MaxDetails {
		t.Errorf("%d texts of %d bytes up to %d, %v", len(texts), size, to, err)
	}
	settle(t, l)
	if got := found(t, l, query.Text{Value: " end150"}); !cmp.Equal(got, []int64{150}) {
		t.Errorf("found %v", got)
	}
}
