package indexer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"sega/broker/api"
)

// childDir names the folder of a test whose process is the indexer to be killed.
const childDir = "SEGA_TEST_INDEXER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// handed is what a test gives its child.
type handed struct {
	Identity string
	Sessions []handedSession
}

type handedSession struct {
	Session api.IndexSession
	Raw     []byte
}

// child indexes everything and ends, unless it is killed first.
func child(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "handed.json"))
	if err != nil {
		return err
	}
	var h handed
	if err := json.Unmarshal(raw, &h); err != nil {
		return err
	}
	id, err := age.ParseX25519Identity(h.Identity)
	if err != nil {
		return err
	}
	broker := newBroker()
	for _, s := range h.Sessions {
		broker.sessions = append(broker.sessions, session{IndexSession: s.Session, raw: s.Raw})
	}
	ctx := context.Background()
	index, err := OpenIndex(ctx, filepath.Join(dir, "index.db"))
	if err != nil {
		return err
	}
	x, err := New(ctx, Config{Broker: broker, Index: index, Identities: []age.Identity{id}, Spool: filepath.Join(dir, "spool"), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return x.look(ctx)
}

// TestKilled kills an indexer again and again in the middle of its work: at the end every session
// is there, once.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	h := handed{Identity: w.reviewer.String()}
	const sessions = 60
	for i := range sessions {
		w.add(fmt.Sprintf("ssh_%02d", i), fmt.Sprintf("text of number %02d\n", i)+strings.Repeat("and more of it\n", 4000))
		h.Sessions = append(h.Sessions, handedSession{w.broker.sessions[i].IndexSession, w.broker.sessions[i].raw})
	}
	if err := os.WriteFile(filepath.Join(w.dir, "handed.json"), marshal(t, h), 0o600); err != nil {
		t.Fatal(err)
	}
	killed, marks := 0, map[int64]bool{}
	for tries := 0; ; tries++ {
		if tries > 500 {
			t.Fatal("it does not come to an end")
		}
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), childDir+"="+w.dir)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(60+rand.IntN(150))*time.Millisecond, func() { _ = c.Process.Kill() })
		err := c.Wait()
		timer.Stop()
		if err == nil {
			break
		}
		if c.ProcessState.ExitCode() != -1 {
			t.Fatalf("the indexer failed: %v", err)
		}
		killed++
		marks[w.mark()] = true
	}
	if killed < 3 || len(marks) < 3 {
		t.Errorf("killed %d times, with %d different marks: the test shows nothing", killed, len(marks))
	}
	for i := range sessions {
		same(t, "found", []string{fmt.Sprintf("ssh_%02d", i)}, w.found(fmt.Sprintf("text of number %02d", i)))
	}
	var pieces, texts, distinct int
	if err := w.index.db.QueryRow(`SELECT (SELECT count(*) FROM pieces), (SELECT count(*) FROM text('"and more"')), (SELECT count(DISTINCT session) FROM pieces)`).Scan(&pieces, &texts, &distinct); err != nil {
		t.Fatal(err)
	}
	if pieces != 2*sessions || texts != pieces || distinct != sessions {
		t.Errorf("%d pieces, %d texts of %d sessions, want 2 for each of %d", pieces, texts, distinct, sessions)
	}
	same(t, "missing", []string{}, w.missing())
	same(t, "mark", int64(10*sessions), w.mark())
}
