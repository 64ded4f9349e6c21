//go:build linux

package cast

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"github.com/hinshun/vt10x"

	"sega/cmd/segad/dev/devtest"
)

// asciinema prepares Debian's asciinema, which wants a home and a locale with UTF-8.
func asciinema(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	devtest.Need(t, "asciinema")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, "asciinema", args...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TERM=xterm"}
	return c
}

// output is what the whole recording shows, decoded at once: standard error stands between two
// whole characters of the output here.
func output() string {
	var all strings.Builder
	for _, p := range pieces {
		all.WriteString(p.data)
	}
	return string([]rune(all.String()))
}

func TestAsciinemaCat(t *testing.T) {
	var out, talk bytes.Buffer
	c := asciinema(t, "cat", exported(t, record(t), t.TempDir(), 2))
	c.Stdout, c.Stderr = &out, &talk
	control, tty, err := pty.Open() // it opens its terminal, whatever it prints to
	must(t, err)
	defer control.Close()
	defer tty.Close()
	c.Stdin, c.SysProcAttr = tty, &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &talk)
	}
	if diff := cmp.Diff(output(), out.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestAsciinemaPlay plays at the pace of the recording, in a terminal.
func TestAsciinemaPlay(t *testing.T) {
	c := asciinema(t, "play", "--speed", "20", exported(t, record(t), t.TempDir(), 2))
	tty, err := pty.StartWithSize(c, &pty.Winsize{Cols: cols, Rows: rows})
	must(t, err)
	defer tty.Close()
	var out bytes.Buffer
	if _, err := io.Copy(&out, tty); err != nil && !errors.Is(err, syscall.EIO) { // EIO: the other side is closed
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if !strings.Contains(out.String(), output()) {
		t.Errorf("played %q", &out)
	}
	if diff := cmp.Diff(shown, screenOf(out.String())); diff != "" {
		t.Errorf("-want +seen\n%s", diff)
	}
}

// screenOf is what a terminal shows after text, without blanks at the ends. The emulator gives wide
// characters one column: of those the test asks for no place.
func screenOf(text string) []string {
	term := vt10x.New(vt10x.WithSize(cols, rows))
	_, _ = term.Write([]byte(text))
	return trimmed(strings.Split(term.String(), "\n"))
}

func trimmed(lines []string) []string {
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \u00a0\x00\r")
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}
