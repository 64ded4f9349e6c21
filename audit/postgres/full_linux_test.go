package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sega/audit/postgres/pgtest"
	"sega/audit/store"
)

// TestDiskFull fills the server's disk under a log (invariant I6): appends are refused and say why,
// and go on by themselves when there is space, even where the server itself went down meanwhile.
func TestDiskFull(t *testing.T) {
	server(t) // or skip
	dir, err := os.MkdirTemp("", "sega-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=160m,mode=0711"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("a full disk was not tested, because nothing may be mounted here: %v", err)
		}
		t.Skipf("NOT TESTED: a full disk, because nothing may be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s, err := pgtest.Run(dir, "shared_buffers=16MB", "max_wal_size=32MB", "min_wal_size=32MB")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	l := openTest(t, config(t, s.URL("postgres")))
	o := newTold()
	ballast := filepath.Join(dir, "ballast")
	for round := range 2 {
		if err := o.append(l, testEvent(1), true); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		fill(t, ballast)
		failed := fillLog(o, l)
		if !errors.Is(failed, store.ErrUnavailable) {
			t.Fatalf("round %d: a full disk was not noticed: %v", round, failed)
		}
		t.Logf("round %d: %v", round, failed)
		if !strings.Contains(failed.Error(), "disk is full") && !strings.Contains(failed.Error(), "fate") && !strings.Contains(failed.Error(), "connect") {
			t.Errorf("round %d: it does not say why: %v", round, failed)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		eventually(t, "appends after the disk has space", func() error {
			err := o.append(l, testEvent(2), true)
			if err != nil {
				_ = restartIfDown(s)
			}
			return err
		})
	}
	o.judge(t, l, false)
}

// restartIfDown starts a server that has ended: PostgreSQL gives up where it cannot write its WAL.
func restartIfDown(s *pgtest.Server) error {
	if err := s.Exec(context.Background(), "postgres", `SELECT 1`); err == nil {
		return nil
	}
	return s.Restart()
}

// fill takes what space there is.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); ; {
		if _, err := f.Write(chunk); err != nil {
			return
		}
	}
}

// fillLog appends until an append fails, and returns why.
func fillLog(o *told, l *Log) error {
	for i := range 5000 {
		e := withDetails(testEvent(i), fmt.Sprintf(`{"x":%q}`, strings.Repeat(rand.Text(), 2000)))
		if err := o.append(l, e, false); err != nil {
			return err
		}
	}
	return nil
}
