package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
	"sega/audit/store/backend"
)

// exitNoMount is the exit code of a child that may not mount.
const exitNoMount = 77

func child(role, dir string) int {
	var err error
	switch role {
	case "append":
		err = childAppend(dir)
	case "full":
		if err := mountSmall(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return exitNoMount
		}
		err = childFull(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		return 1
	}
	return 0
}

// mountSmall mounts a file system of 6 MiB in the child's own mount namespace.
func mountSmall(dir string) error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	return nil
}

// TestDiskFull fills a disk under a log (invariant I6).
func TestDiskFull(t *testing.T) {
	cmd := startChild(t, "full", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
	}
	err := cmd.Run()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == exitNoMount {
		if os.Getenv("CI") != "" {
			t.Fatalf("a full disk was not tested, because nothing may be mounted here: %v", err)
		}
		t.Skipf("NOT TESTED: a full disk, because nothing may be mounted here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// filler is a log on a small disk and what its callers were told.
type filler struct {
	l       *Log
	mu      sync.Mutex
	acked   map[string]int64
	refused map[string]bool
}

// append appends until the first refusal, which it returns, or n times.
func (f *filler) append(n int) error {
	for range n {
		e := testEvent(1)
		e.Reason = "outage of " + e.ID
		e.Details = []byte(`"` + strings.Repeat("x", 5000) + `"`)
		first, err := f.l.Append(context.Background(), []audit.Event{e}, nil)
		f.mu.Lock()
		if err != nil {
			f.refused[e.ID] = true
		} else {
			f.acked[e.ID] = first
		}
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// fill appends from several goroutines until each is refused.
func (f *filler) fill() error {
	errs := make([]error, 6)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() { errs[w] = f.append(10_000) })
	}
	wg.Wait()
	for _, err := range errs {
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "disk is full") {
			return fmt.Errorf("on a full disk an append was told: %v", err)
		}
	}
	return nil
}

// check compares with what is stored.
func (f *filler) check() error {
	_, tree := f.l.Head()
	report, err := audit.VerifyLog(f.l.Rows(context.Background(), 0, tree.N), tree, nil)
	if err != nil || !report.OK() {
		return fmt.Errorf("verify: %+v, %w", report, err)
	}
	stored := map[string]int64{}
	for row, err := range f.l.Rows(context.Background(), 0, tree.N) {
		if err != nil {
			return err
		}
		stored[row.Columns["id"]] = row.Index
		if f.refused[row.Columns["id"]] {
			return fmt.Errorf("event %d was refused, but is stored", row.Index)
		}
	}
	texts := 0
	for _, err := range f.l.Search(context.Background(), query.Query{After: -1, Where: query.Text{Value: "outage"}}) {
		if err != nil {
			return err
		}
		texts++
	}
	if texts != len(stored) {
		return fmt.Errorf("%d of %d events are found by their text", texts, len(stored))
	}
	for id, index := range f.acked {
		if got, ok := stored[id]; !ok || got != index {
			return fmt.Errorf("event %s was acknowledged at %d, found %v at %d", id, index, ok, got)
		}
	}
	return nil
}

// childFull fills the disk, frees a little, and fills it again, on one open log.
func childFull(dir string) error {
	ballast := func(i int) string { return filepath.Join(dir, fmt.Sprint("ballast", i)) }
	const times = 3
	for i := range times {
		if err := os.WriteFile(ballast(i), make([]byte, 1<<20), 0o600); err != nil {
			return err
		}
	}
	key := testKey(childTB{})
	cfg := Config{Path: filepath.Join(dir, "audit.db"), Options: backend.Options{Signer: key, Verifier: key.Verifier()}}
	l, err := Open(context.Background(), cfg)
	if err != nil {
		return err
	}
	f := &filler{l: l, acked: map[string]int64{}, refused: map[string]bool{}}
	for i := range times {
		if err := f.fill(); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
		if err := f.check(); err != nil {
			return fmt.Errorf("full, round %d: %w", i, err)
		}
		if err := os.Remove(ballast(i)); err != nil {
			return err
		}
		if err := f.append(10); err != nil {
			return fmt.Errorf("with space again, round %d: %w", i, err)
		}
	}
	if err := f.check(); err != nil {
		return err
	}
	if len(f.refused) < times || len(f.acked) < 30 {
		return fmt.Errorf("%d refused, %d acknowledged: the disk was not filled", len(f.refused), len(f.acked))
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if f.l, err = Open(context.Background(), cfg); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	return errors.Join(f.check(), f.l.Close())
}
