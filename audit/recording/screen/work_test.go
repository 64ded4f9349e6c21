package screen

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"strings"
	"testing"

	"sega/audit/recording"
)

// drawnLines are the lines of a tape, without a bound of the whole.
func drawnLines(next func() (recording.Frame, error)) iter.Seq2[Line, error] {
	return lines(context.Background(), next, math.MaxInt64)
}

// spent returns the units that text costs on a screen of 200 × 1000, the largest.
func spent(text string) int64 {
	w := &work{left: math.MaxInt64}
	newParser(newTerminal(200, 1000, w, func(Line) {})).write([]byte(text))
	return math.MaxInt64 - w.left
}

// TestScrollingIsOneMove: rows move once, however far. Row by row it were a million moves.
func TestScrollingIsOneMove(t *testing.T) {
	for _, final := range []string{"S", "T", "L", "M"} {
		if got := spent("\x1b[999"+final) - spent(""); got > 3000 {
			t.Errorf("CSI 999 %s costs %d units", final, got)
		}
	}
}

// TestWorkIsBounded: whatever few bytes ask for, a session ends where its output no longer accounts
// for it, at the same place each time; and what was drawn before stays.
func TestWorkIsBounded(t *testing.T) {
	full := "x\x1b[999b"
	for name, piece := range map[string]string{
		"scrolling":       "\x1b[999S\x1b[999T\x1b[999L\x1b[999M",
		"tab stops":       "\x1b[3g\x1b[999I\x1b[999Z",
		"new tab stops":   "\x1bH\x1bc",
		"columns":         full + "\x1b[999@\x1b[G\x1b[999P",
		"insert mode":     full + "\x1b[4h\x1b[2Gyyyyyyyy",
		"screens":         "\x1b[?47h\x1b[?47l",
		"long lines":      strings.Repeat(full, 20) + "\x1b[H" + strings.Repeat("y\x1b[1J", 100),
		"erasing nothing": "\x1b[2J",
	} {
		t.Run(name, func(t *testing.T) {
			rows := uint32(1000)
			if strings.Contains(piece, full) {
				rows = 200 // and as many columns as there may be
			}
			run := func() (drawn []Line, err error) {
				p := pty(t, maxCells/rows, rows).out("before\r\n")
				for range 64 {
					p.out(strings.Repeat(piece, 1+(4<<10)/len(piece)))
				}
				s := &session{open: map[uint32]*channel{}, work: &work{left: 1 << 20, most: math.MaxInt64}, yield: func(l Line) { drawn = append(drawn, l) }}
				next := p.next(io.EOF)
				for err == nil {
					err = s.step(t.Context(), next)
				}
				return drawn, err
			}
			first, err := run()
			if !errors.Is(err, ErrWork) {
				t.Fatalf("it is drawn to its end: %v", err)
			}
			if second, _ := run(); len(second) != len(first) {
				t.Errorf("%d lines, then %d", len(first), len(second))
			}
		})
	}
}

// TestWorkOfText: what programs print and paint is far below the bound.
func TestWorkOfText(t *testing.T) {
	paint := "\x1b[H\x1b[2J" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 49)
	for name, text := range map[string]string{
		"lines":  strings.Repeat("-rw-r--r-- 1 root root  4096 Nov 22 08:22 \x1b[01;34mfile\x1b[0m\r\n", 1000),
		"screen": strings.Repeat(paint, 20),
		"scroll": strings.Repeat("\x1b[2;40r\x1b[40;1H\r\n"+strings.Repeat("y", 60), 500),
	} {
		w := &work{left: math.MaxInt64}
		newParser(newTerminal(120, 50, w, func(Line) {})).write([]byte(text))
		if perByte := (math.MaxInt64 - w.left) / int64(len(text)); perByte > byteWork/4 {
			t.Errorf("%s costs %d units a byte", name, perByte)
		}
	}
}

// TestLinesEndWithTheContext: drawing stops between two frames.
func TestLinesEndWithTheContext(t *testing.T) {
	p := (&tape{t: t}).out("one\n").out("two\n").out("three\n")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	gone := errors.New("the reviewer has left")
	var got []string
	for l, err := range lines(ctx, p.next(io.EOF), math.MaxInt64) {
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		got = append(got, l.Text)
		cancel(gone)
	}
	if strings.Join(got, ",") != "one,"+gone.Error() {
		t.Errorf("%q", got)
	}
}

// TestStringsHideLittle: a control string that never ends hides no more than its bound, and ESC k is
// a string where the terminal is screen or tmux, and nowhere else.
func TestStringsHideLittle(t *testing.T) {
	for name, c := range map[string]struct{ term, out, want string }{
		"title of no terminal": {"xterm-256color", "a\x1bkrm -rf /secret\r\nmore", "arm -rf /secret,more"},
		"title":                {"screen-256color", "a\x1bktitle\x1b\\b\r\n", "ab"},
		"title of tmux":        {"tmux", "a\x1bktitle\x1b\\b\r\n", "ab"},
		"title without end":    {"screen", "a\x1bk" + strings.Repeat("x", maxTitle) + "shown", "ashown"},
		"line feed":            {"xterm", "a\x1b]0;x\nb\x1bPx\nc", "a,b,c"},
		"string without end":   {"xterm", "a\x1b]" + strings.Repeat("x", maxString) + "é\x1b_" + strings.Repeat("x", maxString) + "shown", "aéshown"},
		"bound in a character": {"xterm", "a\x1b]" + strings.Repeat("x", maxString-1) + "\u065bz", "a\ufffdz"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &tape{t: t}
			p.event(0, recording.Event{Type: recording.EventPty, Cols: 40, Rows: 10, Term: c.term})
			var got []string
			for _, l := range p.out(c.out).lines() {
				got = append(got, strings.Join(strings.Fields(l.Text), " "))
			}
			if strings.Join(got, ",") != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
