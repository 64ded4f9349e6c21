//go:build unix

package tuitest

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// Terminal has a program in it.
type Terminal struct {
	t       *testing.T
	pty     *os.File
	tty     *os.File
	mu      sync.Mutex
	seen    bytes.Buffer
	done    chan error
	changed chan struct{}
}

// goodbye ends the reading of a terminal.
const goodbye = "\x00goodbye"

// OnTerminal runs a program on a terminal of 80×24, and at the end of the test awaits nothing more of it.
func OnTerminal(t *testing.T, run func(tty *os.File) error) *Terminal {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	w := &Terminal{t: t, pty: master, tty: tty, done: make(chan error, 1), changed: make(chan struct{}, 1)}
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		for b := make([]byte, 4096); !strings.Contains(w.Shown(), goodbye); {
			n, err := master.Read(b)
			if _, _ = w.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	go func() { w.done <- run(tty) }()
	t.Cleanup(func() {
		// It is not closed: bubbletea does not wait for who asks for its size.
		if _, err := io.WriteString(tty, goodbye); err != nil {
			t.Error(err)
		}
		<-reading
		_ = master.Close()
	})
	return w
}

// Write takes what the terminal was sent.
func (w *Terminal) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default: // somebody is told already
	}
	return w.seen.Write(p)
}

// Shown is all that the terminal was sent, since Forget.
func (w *Terminal) Shown() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.String()
}

// Forget drops what was shown, up to and with a text; all of it where the text is "".
func (w *Terminal) Forget(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, after, _ := strings.Cut(w.seen.String(), text)
	if text == "" {
		after = ""
	}
	w.seen.Reset()
	w.seen.WriteString(after)
}

// Await waits until the terminal was sent a text.
func (w *Terminal) Await(text string) {
	w.t.Helper()
	late := time.After(Patience)
	for !strings.Contains(w.Shown(), text) {
		select {
		case <-w.changed:
		case <-late:
			w.t.Fatalf("no %q in %q", text, w.Shown())
		}
	}
}

// Keys presses keys, as a terminal sends them.
func (w *Terminal) Keys(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w.pty, text); err != nil {
		w.t.Fatal(err)
	}
}

// Ended waits for the end of the program, which leaves the terminal as it was.
func (w *Terminal) Ended() error {
	w.t.Helper()
	select {
	case err := <-w.done:
		w.Await("\x1b[?1049l")
		w.Await("\x1b[?25h")
		if _, err := io.WriteString(w.tty, "the end"); err != nil {
			w.t.Error(err)
		}
		w.Await("the end")
		if strings.LastIndex(w.Shown(), "\x1b[?1049l") < strings.LastIndex(w.Shown(), "\x1b[?1049h") || strings.LastIndex(w.Shown(), "\x1b[?25h") < strings.LastIndex(w.Shown(), "\x1b[?25l") {
			w.t.Errorf("the terminal was left in %q", w.Shown())
		}
		return err
	case <-time.After(Patience):
		w.t.Fatal("it does not end")
		return nil
	}
}
