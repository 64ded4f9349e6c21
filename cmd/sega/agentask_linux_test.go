package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStartInAStrangersFolder: in a folder that others can write nothing is opened, not even the lock of the start.
func TestStartInAStrangersFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "agent")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chmod(dir, 0o777))
	socket := filepath.Join(dir, "socket")
	must(t, unix.Mkfifo(socket+".start", 0o666)) // whoever opens it waits for ever
	a, _, _ := testApp(t)
	ended := make(chan error, 1)
	go func() { ended <- a.startAgent(t.Context(), socket) }()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "yours alone") {
			t.Error(err)
		}
	case <-time.After(2 * startTime):
		t.Fatal("it waits for a stranger")
	}
}
