//go:build linux

package link

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

const inside = "SEGA_TEST_INSIDE_NAMESPACE"

// TestMain runs the tests in a process with a network of its own.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(enter())
	}
	if err := LoopbackUp(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The link is what is tried here: the servers run without the race detector.
	if err := os.Setenv("SEGA_TEST_PLAIN", "1"); err != nil {
		panic(err)
	}
	code := m.Run()
	devtest.CleanUp()
	os.Exit(code)
}

// enter runs this program once more, in a new namespace, and returns its exit code. Where that is not allowed the tests run
// here, and skip or fail by name.
func enter() int {
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), inside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := c.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	fmt.Fprintf(os.Stderr, "no network namespace: %v\n", err)
	if os.Getenv("CI") != "" {
		return 1
	}
	fmt.Println("skipped: the bad link needs root and namespaces")
	return 0
}

// join makes a link for a test.
func join(t *testing.T) *Link {
	t.Helper()
	l, err := New(1)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}
