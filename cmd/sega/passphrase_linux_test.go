package main

import (
	"bufio"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// newTerminal is a terminal, and the person in front of it.
func newTerminal(t *testing.T) (person, tty *os.File) {
	t.Helper()
	person, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(person.Close(), tty.Close()) })
	return person, tty
}

// shows reports whether the terminal shows what is typed.
func shows(t *testing.T, tty *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func awaitHidden(t *testing.T, tty *os.File) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); shows(t, tty); {
		if time.Now().After(end) {
			t.Fatal("the terminal goes on showing what is typed")
		}
		time.Sleep(time.Millisecond) // between two looks at the condition
	}
}

func TestReadHidden(t *testing.T) {
	for name, c := range map[string]struct {
		person   func(*testing.T, *os.File)
		patience time.Duration
		want     string
		code     int
	}{
		"typed":       {func(t *testing.T, p *os.File) { typeIn(t, p, "horse\n") }, time.Minute, "horse", exitDone},
		"interrupted": {func(*testing.T, *os.File) { _ = syscall.Kill(os.Getpid(), syscall.SIGINT) }, time.Minute, "", exitCancelled},
		"nobody":      {func(*testing.T, *os.File) {}, 2 * time.Second, "", exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			person, tty := newTerminal(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				awaitHidden(t, tty)
				c.person(t, person)
			}()
			freed := make(chan struct{})
			got, err := readHidden(tty, c.patience, func() { close(freed) })
			<-done
			if string(got.Reveal()) != c.want || exitCode(err) != c.code {
				t.Errorf("%q, %v", got.Reveal(), err)
			}
			if !shows(t, tty) {
				t.Error("the terminal is left as it does not show what is typed")
			}
			typeIn(t, person, "\n") // ends what still reads
			if shown, err := bufio.NewReader(person).ReadString('\n'); err != nil || shown != "\r\n" {
				t.Errorf("the terminal has shown %q, %v", shown, err)
			}
			<-freed
		})
	}
}

func typeIn(t *testing.T, person *os.File, text string) {
	t.Helper()
	if _, err := person.WriteString(text); err != nil {
		t.Error(err)
	}
}
