package export

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit/recording"
)

func textOf(t testing.TB, p *tape, channel uint32) (string, error) {
	t.Helper()
	list := p.channels()
	c, err := Find(list, channel)
	must(t, err)
	var b bytes.Buffer
	err = Text(context.Background(), &b, p.reader(), c)
	return b.String(), err
}

// TestText: a terminal gives what stood on its screen, anything else its bytes; neither gives what
// a terminal would obey.
func TestText(t *testing.T) {
	p := newTape(t)
	p.event(1, recording.Event{Type: recording.EventPty, Cols: 40, Rows: 5, Term: "xterm"})
	p.event(1, recording.Event{Type: recording.EventShell})
	p.write(1, recording.StreamOut, "$ lx\x08s -l\r\n\x1b]52;c;x\x07gr\xc3")
	p.event(2, recording.Event{Type: recording.EventExec, Command: "cat"})
	p.write(2, recording.StreamOut, "one\x1b]0;t\x07\tt\xe2\x82")
	p.write(2, recording.StreamErr, "e\u009b\u202er\xffr\r\n")
	p.write(2, recording.StreamOut, "\xac\n")
	p.write(1, recording.StreamOut, "\xbcn\r\n$ ")
	p.close()
	for channel, want := range map[uint32]string{1: "$ ls -l\ngrün\n$\n", 2: "one]0;t\tter�r\n€\n"} {
		got, err := textOf(t, p, channel)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("channel %d: %v\n%s", channel, err, diff)
		}
	}
}

func TestTextOfAnInterruptedRecording(t *testing.T) {
	p := newTape(t)
	p.event(1, recording.Event{Type: recording.EventPty, Cols: 40, Rows: 5})
	p.write(1, recording.StreamOut, "on the screen")
	p.write(2, recording.StreamOut, "of a command")
	for channel, want := range map[uint32]string{1: "on the screen\n", 2: "of a command"} {
		if got, err := textOf(t, p, channel); got != want || !errors.Is(err, recording.ErrInterrupted) {
			t.Errorf("channel %d: %q, %v", channel, got, err)
		}
	}
}

// FuzzText: whatever was recorded, text obeys nobody.
func FuzzText(f *testing.F) {
	f.Add([]byte("a\x1b[31mb\u009b\u202e\r\n\xff"), true)
	f.Add([]byte("\x1bP+q\x1b\\\x05\x90x"), false)
	f.Fuzz(func(t *testing.T, data []byte, pty bool) {
		p := newTape(t)
		if pty {
			p.event(0, recording.Event{Type: recording.EventPty, Cols: 20, Rows: 4})
		}
		p.write(0, recording.StreamOut, string(data)+"x")
		p.close()
		text, err := textOf(t, p, 0)
		must(t, err)
		if visible(text) != text {
			t.Errorf("%q", text)
		}
	})
}
