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
	const sessions = 40
	for i := range sessions {
		w.add(fmt.Sprintf("ssh_%02d", i), fmt.Sprintf("text of number %02d\n", i)+strings.Repeat("and more of it\n", 2500))
		h.Sessions = append(h.Sessions, handedSession{w.broker.sessions[i].IndexSession, w.broker.sessions[i].raw})
	}
	if err := os.WriteFile(filepath.Join(w.dir, "handed.json"), marshal(t, h), 0o600); err != nil {
		t.Fatal(err)
	}
	for killed := 0; ; killed++ {
		if !w.killChild(w.mark() + 10*int64(1+rand.IntN(6))) {
			if killed < 5 {
				t.Errorf("killed %d times: the test shows nothing", killed)
			}
			break
		}
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

// killChild runs an indexer and kills it at a random moment soon after it has come as far as upTo.
// It reports whether it was killed: one that has nothing more to do ends by itself.
func (w *world) killChild(upTo int64) bool {
	w.t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childDir+"="+w.dir)
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				w.t.Fatalf("the indexer failed: %v", err)
			}
			return false
		case <-look.C:
		}
		if w.mark() < upTo {
			continue
		}
		time.Sleep(time.Duration(rand.IntN(8000)) * time.Microsecond) // where in its work is left to chance
		_ = c.Process.Kill()
		return <-ended != nil
	}
}
