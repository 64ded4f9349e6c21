//go:build unix

package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sega/audit"
)

// childArg makes the test's binary a move that kills itself.
const childArg = "move-and-die"

// order is what a child is to do.
type order struct {
	Key        []byte
	From, To   string // path of SQLite, or URL of PostgreSQL
	FromN, ToN string // names of the places
	DieAt      string // step
}

// child runs a move and dies by SIGKILL at a step: nothing of it is cleaned up.
func child(args []string) int {
	var o order
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		panic(err)
	}
	key, err := audit.ParseLogKey(o.Key)
	if err != nil {
		panic(err)
	}
	c := moveOf(siteAt(o.From, o.FromN, key), siteAt(o.To, o.ToN, key), key)
	c.step = func(name string) {
		if name == o.DieAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	if _, err := Run(context.Background(), c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// siteAt is a site by the address that a child gets.
func siteAt(address, name string, key *audit.LogKey) site {
	if strings.HasPrefix(address, "postgres:") {
		return postgresAt(address, name, key)
	}
	return sqliteSite(address, key)
}

// TestKilled kills a move at every step. Never do both ends open, and at least one of them is whole:
// the same command ends the move, or says what to remove first.
func TestKilled(t *testing.T) {
	s := startServer(t)
	for name, c := range map[string]struct {
		dieAt string
		want  string // that the next run says; "": it ends the move
		moved bool   // the source does not open any more
	}{
		"in the middle of the copy": {"copied events", "", false},
		"before the target commits": {"filled", "", false},
		"before the source leaves":  {"arrived", "remove the copy", false},
		"before the target goes on": {"left", "", true},
		"when all is done":          {"done", "goes on there", true},
	} {
		for _, way := range []string{"sqlite to postgres", "postgres to sqlite"} {
			t.Run(name+", "+way, func(t *testing.T) {
				key := newKey(t)
				file, url := filepath.Join(t.TempDir(), "sega.db"), newSchema(s)
				o := order{Key: key.Reveal(), From: file, FromN: "sqlite:" + file, To: url, ToN: "postgres:target", DieAt: c.dieAt}
				if way == "postgres to sqlite" {
					o.From, o.To, o.FromN, o.ToN = url, file, "postgres:source", "sqlite:"+file
				}
				from, to := siteAt(o.From, o.FromN, key), siteAt(o.To, o.ToN, key)
				want := from.fillLog(t, 100)
				kill(t, o)
				wantOneLog(t, from, to, c.dieAt, c.moved)
				_, err := Run(t.Context(), moveOf(from, to, key))
				if c.want != "" {
					if err == nil || !strings.Contains(err.Error(), c.want) {
						t.Fatalf("the next run: %v, want %q", err, c.want)
					}
					if c.want == "remove the copy" {
						to.remove(t)
						_, err = Run(t.Context(), moveOf(from, to, key))
					} else {
						err = nil
					}
				}
				if err != nil {
					t.Fatalf("the next run: %v", err)
				}
				wantMoved(t, from, to, key, want)
			})
		}
	}
}

// kill runs a child until it dies.
func kill(t *testing.T, o order) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(os.Args[0], childArg, string(text)).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child did not die at %q: %v\n%s", o.DieAt, err, out)
	}
}

// wantOneLog: after a crash at most one of the two is a log that goes on.
func wantOneLog(t *testing.T, from, to site, dieAt string, moved bool) {
	t.Helper()
	l, err := from.open(t.Context())
	if (err == nil) == moved {
		t.Errorf("the source opens: %v", err)
	}
	if err == nil {
		_ = l.Close()
	}
	if dieAt != "arrived" && dieAt != "left" {
		return // where nothing has arrived the target holds nothing; opening it would make a new log
	}
	if l, err := to.open(t.Context()); err == nil {
		_ = l.Close()
		t.Error("the target opens")
	} else if !strings.Contains(err.Error(), "has not wholly arrived") {
		t.Errorf("the target says: %v", err)
	}
}
