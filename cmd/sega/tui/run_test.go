//go:build unix

package tui

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/creack/pty"
)

// TestNothingAsked runs this program, bubbletea in it, on a terminal that would have colours to tell: while packages are initialised it
// is asked nothing, and the environment is as it was (package unasked).
func TestNothingAsked(t *testing.T) {
	for _, ci := range []string{"", "CI=", "CI=yes"} {
		c := exec.Command(os.Args[0], "-test.run=^TestEnvironment$", "-test.v")
		c.Env = []string{"TERM=xterm-256color", "TUI_WANT=" + ci, "HOME=" + t.TempDir()}
		if ci != "" {
			c.Env = append(c.Env, ci)
		}
		master, err := pty.Start(c)
		if err != nil {
			t.Fatal(err)
		}
		shown, _ := io.ReadAll(master) // ends with EIO, when the program has
		if err := c.Wait(); err != nil || bytes.ContainsRune(shown, 0x1b) || !bytes.Contains(shown, []byte("PASS: TestEnvironment")) {
			t.Errorf("%q: %v: %q", ci, err, shown)
		}
		_ = master.Close()
	}
}

// TestEnvironment is the program that TestNothingAsked runs.
func TestEnvironment(t *testing.T) {
	want, asked := os.LookupEnv("TUI_WANT")
	if !asked {
		want = ""
		if v, ok := os.LookupEnv("CI"); ok {
			want = "CI=" + v
		}
	}
	got := ""
	if v, ok := os.LookupEnv("CI"); ok {
		got = "CI=" + v
	}
	if got != want || errUnasked != nil {
		t.Errorf("the environment has %q, not %q (%v)", got, want, errUnasked)
	}
}
