package sqlite

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/audit"
	"sega/audit/store"
	"sega/audit/store/backend"
)

func appendN(t *testing.T, l *Log, from, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.Append(t.Context(), []audit.Event{testEvent(from + i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// beneath runs SQL beneath whoever has the database open.
func beneath(t *testing.T, path, text string) {
	t.Helper()
	db, err := openPool(path, 1, url.Values{"_pragma": {"busy_timeout(5000)"}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}

// restoreIn puts the tables of a copy into the database that is open, in one transaction.
func restoreIn(t *testing.T, path, copied string) {
	t.Helper()
	text := `ATTACH '` + copied + `' AS old; BEGIN`
	for _, name := range []string{"events", "tree", "head"} {
		text += `; DELETE FROM main.` + name + `; INSERT INTO main.` + name + ` SELECT * FROM old.` + name
	}
	beneath(t, path, text+`; COMMIT`)
}

// refusesAll fails the test unless the log refuses to be appended to and to be read, as one that was set back.
func refusesAll(t *testing.T, l *Log) {
	t.Helper()
	if _, err := l.Append(t.Context(), []audit.Event{testEvent(900)}, nil); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, store.ErrSetBack) {
		t.Errorf("append: %v", err)
	}
	if err := l.Read(t.Context(), func(context.Context, store.Querier) error { return nil }); !errors.Is(err, store.ErrUnreadable) || !errors.Is(err, store.ErrSetBack) {
		t.Errorf("read: %v", err)
	}
	for _, err := range l.Rows(t.Context(), 0, 1) {
		if !errors.Is(err, store.ErrSetBack) {
			t.Errorf("rows: %v", err)
		}
	}
}

// TestSetBack: a database that was set back or exchanged beneath a log is not appended to, and the
// head that was signed stays.
func TestSetBack(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, path, copied string){
		"restored in place": restoreIn,
		"restored in place, and another went on": func(t *testing.T, path, copied string) {
			restoreIn(t, path, copied)
			other := openTest(t, Config{Path: path})
			appendN(t, other, 100, 7) // more than were lost: the size alone tells nothing
		},
		"another file in its place": func(t *testing.T, path, copied string) {
			if err := os.Rename(copied, path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, copied := filepath.Join(dir, "audit.db"), filepath.Join(dir, "copy.db")
			l := openTest(t, Config{Path: path})
			appendN(t, l, 0, 3)
			beneath(t, path, `VACUUM INTO '`+copied+`'`)
			appendN(t, l, 3, 2)
			_, signed := l.Head()
			harm(t, path, copied)
			refusesAll(t, l)
			if _, now := l.Head(); now != signed {
				t.Errorf("the head moved from %d to %d events", signed.N, now.N)
			}
			refusesAll(t, l)
		})
	}
}

// TestNotSetBack: what another process has appended is no reason to refuse, nor is a file that was away for a moment.
func TestNotSetBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	l := openTest(t, Config{Path: path})
	other := openTest(t, Config{Path: path})
	for i := range 10 {
		appendN(t, other, 100+3*i, 2)
		appendN(t, l, 102+3*i, 1)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), []audit.Event{testEvent(500)}, nil); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without its file: %v", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 501, 1)
}

// TestUnknownFate: where it cannot be found out what became of a commit, the error says so.
func TestUnknownFate(t *testing.T) {
	key := testKey(t)
	cfg := Config{Path: filepath.Join(t.TempDir(), "audit.db"), Options: backend.Options{Signer: key, Verifier: key.Verifier()}}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	f := &faults{first: 1 << 50, count: 1 << 50, after: true, only: `COMMIT`}
	l, err := open(t.Context(), cfg, func(ctx context.Context) (conn, error) {
		c, err := dial(ctx, cfg.Path)
		return &faultConn{c, f}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	appendN(t, l, 0, 1)
	for i := range 3 {
		f.n.Store(f.first) // the commit, and all that follows it
		e := testEvent(10 + i)
		_, err := l.Append(t.Context(), []audit.Event{e}, nil)
		f.n.Store(0)
		if err == nil || !strings.Contains(err.Error(), "unknown") {
			t.Errorf("the answer to a commit was lost, and so was the database: %v", err)
		}
		appendN(t, l, 1000+i, 1)
		if _, err := l.Event(t.Context(), e.ID); err != nil {
			t.Errorf("what was committed is not there: %v", err)
		}
	}
}
