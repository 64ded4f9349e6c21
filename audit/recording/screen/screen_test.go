package screen

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit/recording"
)

// tape makes frames as a recording would have them.
type tape struct {
	t      testing.TB
	frames []recording.Frame
	now    time.Duration
}

func (p *tape) event(channel uint32, e recording.Event) *tape {
	p.t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		p.t.Fatal(err)
	}
	p.frames = append(p.frames, recording.Frame{Channel: channel, Stream: recording.StreamEvent, Offset: p.now, Data: data})
	return p
}

func (p *tape) write(channel uint32, s recording.Stream, text string) *tape {
	p.frames = append(p.frames, recording.Frame{Channel: channel, Stream: s, Offset: p.now, Data: []byte(text)})
	return p
}

func (p *tape) out(text string) *tape { return p.write(0, recording.StreamOut, text) }

func (p *tape) wait(d time.Duration) *tape {
	p.now += d
	return p
}

func (p *tape) next(end error) func() (recording.Frame, error) {
	i := 0
	return func() (recording.Frame, error) {
		if i == len(p.frames) {
			return recording.Frame{}, end
		}
		i++
		return p.frames[i-1], nil
	}
}

func (p *tape) lines() []Line {
	p.t.Helper()
	var all []Line
	for l, err := range drawnLines(p.next(io.EOF)) {
		if err != nil {
			p.t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

func (p *tape) texts() []string {
	p.t.Helper()
	var all []string
	for _, l := range p.lines() {
		all = append(all, l.Text)
	}
	return all
}

// pty is a tape whose channel 0 has a terminal.
func pty(t testing.TB, cols, rows uint32) *tape {
	return (&tape{t: t}).event(0, recording.Event{Type: recording.EventPty, Cols: cols, Rows: rows, Term: "xterm-256color"})
}

func TestTerminal(t *testing.T) {
	const clear = "\x1b[H\x1b[2J\x1b[3J"
	for _, c := range []struct {
		name string
		tape *tape
		want []string
	}{
		{"a command in two pieces", pty(t, 80, 24).out("$ printf 'x'\r\nDROP TABL").out("E users\r\n"), []string{"$ printf 'x'", "DROP TABLE users"}},
		{"what scrolls past is never left out", pty(t, 20, 3).out(strings.Repeat("same\r\n", 5)), []string{"same", "same", "same", "same", "same"}},
		{"lines without anything are", pty(t, 20, 3).out("a\r\n\r\n   \r\n\r\nb"), []string{"a", "b"}},
		{"a line that wraps", pty(t, 10, 4).out("$ DROP TABLE users; SELECT 1\r\nx\r\n"), []string{"$ DROP TABLE users; SELECT 1", "x"}},
		{"a line that wraps and scrolls off", pty(t, 10, 2).out("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ\r\nx\r\n"), []string{"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "x"}},
		{"readline's own wrapping", pty(t, 10, 4).out("$ 01234567 \r89\r\n"), []string{"$ 0123456789"}},
		{"colours in a word", pty(t, 80, 24).out("DR\x1b[01;31mOP\x1b[0m TA\x1b[38;5;196mB\x1b[mLE"), []string{"DROP TABLE"}},
		{"a title", pty(t, 80, 24).out("a\x1b]0;secret title\x07b\x1bP+q544e\x1b\\c\x1b_x\x1b\\d"), []string{"abcd"}},
		{"escape sequences split anywhere", pty(t, 80, 24).out("a\x1b").out("[").out("3").out("1mb\x1b]0;t").out("\x1b").out("\\c"), []string{"abc"}},
		{"characters split anywhere", pty(t, 80, 24).out("gr\xc3").out("\xbc\xc3\x9f \xe4").out("\xbd").out("\xa0 \xf0\x9f").out("\x98\x80!"), []string{"grüß 你 😀!"}},
		{"what is no UTF-8", pty(t, 80, 24).out("a\xff\xc3").out("b\xe4\xbd").out("\xc3\xbcc"), []string{"a\uFFFD\uFFFDb\uFFFD\uFFFDüc"}},
		{"a character that is never whole", pty(t, 80, 24).out("a\xe4\xbd"), []string{"a\uFFFD"}},
		{"wide characters", pty(t, 6, 3).out("你好世界再见\r\nx"), []string{"你好世界再见", "x"}},
		{"a wide character at the edge", pty(t, 5, 3).out("你好世"), []string{"你好世"}},
		{"half of a wide character overwritten", pty(t, 20, 3).out("你好\x1b[2Gx"), []string{" x好"}},
		{"backspaces over a wide character", pty(t, 20, 3).out("ab你\b\bcd\x1b[K"), []string{"abcd"}},
		{"marks", pty(t, 20, 3).out("e\u0301a\u0308\u0323 n").out("\u0303o"), []string{"e\u0301a\u0308\u0323 n\u0303o"}},
		{"characters without width between letters", pty(t, 20, 3).out("DR\u200bOP\u202e TA\u00adBLE"), []string{"DROP TABLE"}},
		{"line drawing", pty(t, 20, 3).out("\x1b(0lqk\x1b(B q \x0e\x1b)0x\x0fx"), []string{"┌─┐ q │x"}},
		{"a progress bar", pty(t, 40, 5).out("  1%\r").wait(100 * time.Millisecond).out(" 50%\r").wait(100 * time.Millisecond).out("100%\r\ndone\r\n"), []string{"100%", "done"}},
		{"a line that stood for a while", pty(t, 40, 5).out("password of db: hunter2").wait(5 * time.Second).out("\r\x1b[Kdone\r\n"), []string{"password of db: hunter2", "done"}},
		{"a line that is changed at once", pty(t, 40, 5).out("password: hunter2").out("\r\x1b[Kdone\r\n"), []string{"done"}},
		{"cleared", pty(t, 40, 5).out("one\r\ntwo\r\ntwo\r\n" + clear + "three\r\n"), []string{"one", "two", "two", "three"}},
		{"cleared and painted again", pty(t, 40, 5).out("one\r\ntwo\r\n" + clear + "one\r\ntwo\r\n" + clear + "one\r\ntwo\r\nmore"), []string{"one", "two", "one", "two", "more"}},
		{"cleared, painted again and again", pty(t, 40, 5).out(strings.Repeat("one\r\ntwo\r\n"+clear, 50)), []string{"one", "two"}},
		{"the alternate screen", pty(t, 40, 5).out("$ vi f\r\n\x1b[?1049h\x1b[H\x1b[2Jfirst\r\nsecond\x1b[1;1Hf").wait(time.Minute).out("\x1b[2;1Hthird \x1b[?1049l$ exit\r\n"),
			[]string{"$ vi f", "second", "first", "third", "$ exit"}},
		{"the alternate screen, three times", pty(t, 40, 5).out("$ x\r\n" + strings.Repeat("\x1b[?1049hsame text\x1b[?1049l", 3)), []string{"$ x", "same text"}},
		{"the main screen comes back", pty(t, 40, 3).out("one\r\ntwo\r\n\x1b[?1049hALT\x1b[?1049lthree\r\nfour\r\nfive"), []string{"one", "two", "ALT", "three", "four", "five"}},
		{"the end within the alternate screen", pty(t, 40, 5).out("main\r\n\x1b[?1049halt"), []string{"main", "alt"}},
		{"a screen that repeats itself", pty(t, 20, 4).out(strings.Repeat("\x1b[H\x1b[Kload 1\r\n\x1b[Kload 2", 9)), []string{"load 1", "load 2"}},
		{"scrolling within margins", pty(t, 20, 4).out("head\r\n\x1b[2;3r\x1b[2;1Ha\r\nb\r\nc\r\nd\x1b[4;1Hfoot"), []string{"a", "b", "head", "c", "d", "foot"}},
		{"insert and delete", pty(t, 20, 4).out("DRP\x1b[D\x1b[@O\x1b[5G TABxLE\x1b[3D\x1b[P"), []string{"DROP TABLE"}},
		{"insert mode", pty(t, 20, 4).out("DP\b\x1b[4hRO\x1b[4l\x1b[C!"), []string{"DROP!"}},
		{"repetition", pty(t, 20, 4).out("a-\x1b[4bb"), []string{"a-----b"}},
		{"tabs", pty(t, 40, 4).out("a\tb\x1b[20G\x1bH\r\x1b[3g\n").out("c\td"), []string{"a       b", "c" + strings.Repeat(" ", 38) + "d"}},
		{"smaller", pty(t, 10, 4).out("one\r\ntwo\r\nthree").event(0, recording.Event{Type: recording.EventResize, Cols: 4, Rows: 2}).out("\r\nfour"),
			[]string{"one", "two", "three", "four"}},
		{"larger", pty(t, 4, 2).out("one\r\ntwo").event(0, recording.Event{Type: recording.EventResize, Cols: 20, Rows: 5}).out("\r\na longer line"),
			[]string{"one", "two", "a longer line"}},
		{"size 0", pty(t, 0, 0).out("x"), []string{"x"}},
		{"every size", pty(t, 1<<31, 1<<31).out("x\x1b[999999;999999Hy"), []string{"x", strings.Repeat(" ", maxCols-1) + "y"}},
		{"one column", pty(t, 1, 1).out("ab你"), []string{"ab你"}},
		{"reset", pty(t, 20, 4).out("one\x1bctwo"), []string{"one", "two"}},
		{"input is no text", pty(t, 20, 4).write(0, recording.StreamIn, "secret\r").out("out"), []string{"out"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.tape.texts()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestPlain(t *testing.T) {
	exec := func() *tape {
		return (&tape{t: t}).event(0, recording.Event{Type: recording.EventExec, Command: "x"})
	}
	for _, c := range []struct {
		name string
		tape *tape
		want []string
	}{
		{"lines", exec().out("one\ntw").out("o\r\n\nthree"), []string{"one", "two", "three"}},
		{"two streams", exec().out("out").write(0, recording.StreamErr, "err\n").out("put\n"), []string{"err", "output"}},
		{"control characters", exec().out("DR\x07OP\b \x1b[31mTA\x1b]0;x\x07BLE\x7f\tx\x00y\n"), []string{"DROP TABLE\txy"}},
		{"a carriage return hides nothing", exec().out("secret\rxxxxxx\n"), []string{"secret", "xxxxxx"}},
		{"what is no UTF-8", exec().out("a\xff\xfe\xfdb\n"), []string{"a\uFFFDb"}},
		{"repetitions", exec().out("a\na\n"), []string{"a", "a"}},
		{"input", exec().write(0, recording.StreamIn, "secret\n").out("x\n"), []string{"x"}},
		{"file transfers", (&tape{t: t}).event(0, recording.Event{Type: recording.EventSubsystem, Name: "sftp"}).out("bytes\n"), nil},
		{"another subsystem", (&tape{t: t}).event(0, recording.Event{Type: recording.EventSubsystem, Name: "netconf"}).out("<x/>\n"), []string{"<x/>"}},
		{"a long line", exec().out(strings.Repeat("ü", maxText) + "\n"), []string{strings.Repeat("ü", maxText/2), strings.Repeat("ü", maxText/2)}},
		{"a long line that begins with one byte", exec().out("a" + strings.Repeat("ü", maxText/2) + "\n"), []string{"a" + strings.Repeat("ü", maxText/2-1), "ü"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.tape.texts()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestOffsets: a line's offset is when it was complete, not when it scrolled away.
func TestOffsets(t *testing.T) {
	p := pty(t, 20, 2).wait(time.Second).out("on").wait(time.Second).out("e\r\n").wait(time.Minute).out("two\r\nthree\r\n")
	p.event(7, recording.Event{Type: recording.EventExec}).wait(time.Second).write(7, recording.StreamOut, "other").wait(time.Hour).write(7, recording.StreamOut, "\n")
	want := []Line{
		{Offset: 2 * time.Second, Text: "one"},
		{Offset: 62 * time.Second, Text: "two"},
		{Offset: 63 * time.Second, Channel: 7, Text: "other"},
		{Offset: 62 * time.Second, Text: "three"},
	}
	if diff := cmp.Diff(want, p.lines()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestInterrupted: what was shown before a bastion died is text as well.
func TestInterrupted(t *testing.T) {
	p := pty(t, 20, 5).out("one\r\ntwo")
	var got []string
	var last error
	for l, err := range drawnLines(p.next(recording.ErrInterrupted)) {
		if last = err; err == nil {
			got = append(got, l.Text)
		}
	}
	if diff := cmp.Diff([]string{"one", "two"}, got); diff != "" || !errors.Is(last, recording.ErrInterrupted) {
		t.Errorf("ended with %v, -want +got\n%s", last, diff)
	}
}

func TestStop(t *testing.T) {
	p := pty(t, 20, 2).out(strings.Repeat("a\r\n", 50))
	n := 0
	for range drawnLines(p.next(io.EOF)) {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d lines", n)
	}
}

func TestBadEvent(t *testing.T) {
	p := pty(t, 20, 2).out("a")
	p.frames = append(p.frames, recording.Frame{Stream: recording.StreamEvent, Data: []byte("{")})
	var got []string
	for l, err := range drawnLines(p.next(io.EOF)) {
		got = append(got, fmt.Sprint(l.Text, err != nil))
	}
	if diff := cmp.Diff([]string{"afalse", "true"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestManyChannels: screens are bounded, and the text of all channels is there.
func TestManyChannels(t *testing.T) {
	p := &tape{t: t}
	for i := range uint32(3 * maxChannels) {
		p.event(i, recording.Event{Type: recording.EventPty, Cols: 80, Rows: 24})
		p.write(i, recording.StreamOut, fmt.Sprintf("channel %d", i))
	}
	seen := map[uint32]string{}
	for _, l := range p.lines() {
		seen[l.Channel] += l.Text
	}
	for i := range uint32(3 * maxChannels) {
		if want := fmt.Sprintf("channel %d", i); seen[i] != want {
			t.Errorf("channel %d gave %q", i, seen[i])
		}
	}
}
