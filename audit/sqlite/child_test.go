package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/audit/store/storetest"
)

// childEnv names what this binary does as a child of its own tests; childDir where.
const (
	childEnv = "SEGA_TEST_CHILD"
	childDir = "SEGA_TEST_DIR"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		os.Exit(child(role, os.Getenv(childDir)))
	}
	os.Exit(m.Run())
}

// childTB lets helpers that want a testing.TB run outside of a test: only what they use works.
type childTB struct{ testing.TB }

func (childTB) Helper()           {}
func (childTB) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// startChild starts this binary in a role.
func startChild(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+role, childDir+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// childAppend appends from several goroutines until it is killed, and tells of each append when it
// has been acknowledged.
func childAppend(dir string) error {
	key := testKey(childTB{})
	l, err := Open(context.Background(), Config{Path: filepath.Join(dir, "audit.db"), Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: []string{storetest.Schema}}})
	if err != nil {
		return err
	}
	failed := make(chan error, 8)
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				e := testEvent(w)
				e.Reason = "outage of " + e.ID
				e.Details = []byte(fmt.Sprintf(`{"i":%d,"pad":%q}`, i, strings.Repeat("x", i*37%3000)))
				first, err := l.Append(context.Background(), []audit.Event{e}, func(ctx context.Context, tx store.Tx) error {
					_, err := tx.ExecContext(ctx, `INSERT INTO storetest_state (name, n) VALUES (?, ?)`, e.ID, tx.Next)
					return err
				})
				if err != nil {
					failed <- err
					return
				}
				fmt.Fprintf(os.Stdout, "%d %s\n", first, e.ID) // one write, so lines stay whole
			}
		}()
	}
	return <-failed
}

// killed runs a child until it has told of n appends, kills it, and returns all that it told.
func killed(t *testing.T, dir string, n int) map[string]int64 {
	t.Helper()
	cmd := startChild(t, "append", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked := map[string]int64{}
	in := bufio.NewReader(out)
	kill := sync.OnceFunc(func() { cmd.Process.Kill() })
	for {
		if len(acked) >= n {
			kill()
		}
		line, err := in.ReadString('\n')
		if err == io.EOF {
			break // a torn last line was not told whole
		}
		var index int64
		var id string
		if _, err := fmt.Sscan(line, &index, &id); err != nil {
			t.Fatalf("child said %q", line)
		}
		acked[id] = index
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return acked
}

// TestKill9 kills a broker's process at random moments (invariant I6): every acknowledged event is
// there with its state, and each earlier head is still a beginning of the log.
func TestKill9(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	all := map[string]int64{}
	var trees []tlog.Tree
	rounds := 6
	if soak {
		rounds = 60
	}
	for range rounds {
		n := rand.IntN(250)
		for id, index := range killed(t, dir, n) {
			all[id] = index
		}
		l, err := tryOpen(t, Config{Path: filepath.Join(dir, "audit.db"), Options: backend.Options{Schema: []string{storetest.Schema}}})
		if err != nil {
			t.Fatal(err)
		}
		judge(t, l, all, nil, true)
		_, tree := l.Head()
		report, err := audit.VerifyLog(l.Rows(t.Context(), 0, tree.N), tree, trees)
		if err != nil || !report.OK() {
			t.Fatalf("%+v, %v", report, err)
		}
		trees = append(trees, tree)
		settle(t, l)
		if got := found(t, l, query.Text{Value: "OUTAGE of"}); int64(len(got)) != tree.N {
			t.Fatalf("%d of %d events are found by their text", len(got), tree.N)
		}
		var states int64
		if err := l.reads.QueryRow(`SELECT count(*) FROM storetest_state s JOIN events e ON e.id = s.name AND e.idx = s.n`).Scan(&states); err != nil || states != tree.N {
			t.Fatalf("%d states for %d events, %v", states, tree.N, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(all) < 25*rounds {
		t.Errorf("only %d events were acknowledged in all", len(all))
	}
	t.Logf("%d acknowledged, %d stored", len(all), trees[len(trees)-1].N)
}
