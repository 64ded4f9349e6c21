package screen

import (
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"sega/audit/recording"
)

// FuzzTerminal: whatever a session prints, in whatever pieces, the screen stays within its bounds,
// and the lines are text.
func FuzzTerminal(f *testing.F) {
	for _, name := range []string{"bash", "vi", "less"} {
		out, err := os.ReadFile("testdata/" + name + ".out")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(out, uint16(80), uint16(24), uint8(7))
	}
	for _, s := range []string{"你好\x1b[99999999999@\x1b[9223372036854775807P\x1b[-5P\x1b[9999I\x1b[9999b", "\x1b[2;3r\x1b[?6h\x1b[H\x1bM\x1b[9L\x1b[9M",
		"\x1b[4h\xe4\xbd\xa0\xe4\xbd\xa0\x1b[?7l\xe4\xbd\xa0\x1b[G\x1b[@", "\x1b[?1049h\x1b[?47h\x1b[?1047l\x1b8\x1bc\x1b[?1049l", "e\xcc\x81\xcc\x81\x1b[3g\t\x1bH"} {
		f.Add([]byte(s), uint16(5), uint16(3), uint8(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, cols, rows uint16, piece uint8) {
		data = data[:min(len(data), 4<<10)]
		p := pty(t, uint32(cols), uint32(rows))
		whole := pty(t, uint32(cols), uint32(rows)).out(string(data))
		for rest := data; len(rest) > 0; {
			n := min(int(piece)+1, len(rest))
			p.out(string(rest[:n])).wait(time.Millisecond)
			if rest = rest[n:]; len(rest)%3 == 0 {
				p.event(0, recording.Event{Type: recording.EventResize, Cols: uint32(cols) + uint32(len(rest)%5), Rows: uint32(rows)})
			}
		}
		for l, err := range drawnLines(p.next(io.EOF)) {
			if err != nil {
				t.Fatal(err)
			}
			check(t, l)
		}
		checkBounds(t, data, int(cols), int(rows))
		for l := range drawnLines(whole.next(io.EOF)) {
			check(t, l)
		}
	})
}

func check(t *testing.T, l Line) {
	switch {
	case !utf8.ValidString(l.Text):
		t.Fatalf("%q is no UTF-8", l.Text)
	case strings.TrimSpace(l.Text) == "" || len(l.Text) > maxText:
		t.Fatalf("a line of %d bytes: %.40q", len(l.Text), l.Text)
	case strings.ContainsFunc(l.Text, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }):
		t.Fatalf("%q holds control characters", l.Text)
	}
}

// checkBounds looks at the screen itself.
func checkBounds(t *testing.T, data []byte, cols, rows int) {
	s := newTerminal(cols, rows, newWork(math.MaxInt64), func(Line) {})
	p := newParser(s)
	for _, b := range data {
		p.write([]byte{b})
	}
	for _, b := range []*buffer{s.main, s.alt} {
		if len(b.rows)*s.cols > maxCells || len(b.carry) > 2*maxText+maxCols*maxMarkBytes {
			t.Fatalf("%d rows of %d columns, %d bytes kept", len(b.rows), s.cols, len(b.carry))
		}
		for _, r := range b.rows {
			if len(r.cells) > s.cols {
				t.Fatalf("a row of %d cells in %d columns", len(r.cells), s.cols)
			}
		}
	}
	if s.x < 0 || s.x >= s.cols || s.y < 0 || s.y >= s.height() || s.top > s.bottom || s.bottom >= s.height() {
		t.Fatalf("cursor %d,%d, margins %d to %d on %d×%d", s.x, s.y, s.top, s.bottom, s.cols, s.height())
	}
}

// FuzzPieces: in which pieces a stream comes changes no text.
func FuzzPieces(f *testing.F) {
	f.Add([]byte("gr\xc3\xbc\xc3\x9fe \xff\xe4\xbd x\x1b[31my\x1b]0;t\x1b\\z\n"), uint8(1))
	f.Add([]byte("\xf0\x9f\x98\x80\xf0\x9f\x98\n\xe4\xe4\xbd\xa0\x1b\x1b[1\xffm"), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		data = data[:min(len(data), 4<<10)]
		one, many := pty(t, 40, 5).out(string(data)), pty(t, 40, 5)
		plainOne, plainMany := (&tape{t: t}).out(string(data)), &tape{t: t}
		for rest := data; len(rest) > 0; {
			n := min(int(piece)+1, len(rest))
			many.out(string(rest[:n]))
			plainMany.out(string(rest[:n]))
			rest = rest[n:]
		}
		if diff := cmp.Diff(plainOne.texts(), plainMany.texts()); diff != "" {
			t.Errorf("plain, -whole +pieces\n%s", diff)
		}
		// Lines may repeat differently, for a piece ends what counts as one piece of work.
		if diff := cmp.Diff(set(one.texts()), set(many.texts())); diff != "" {
			t.Errorf("terminal, -whole +pieces\n%s", diff)
		}
	})
}

func set(lines []string) map[string]bool {
	m := map[string]bool{}
	for _, l := range lines {
		m[l] = true
	}
	return m
}

// TestFlood: sequences that make much of few bytes make a bounded amount: a row for each.
func TestFlood(t *testing.T) {
	for name, piece := range map[string]string{
		"repetition":   "x\x1b[9999b",
		"tab stops":    "\x1b[9999I\x1b[9999Z",
		"erasing":      "x\x1b[9999b\x1b[H\x1b[J",
		"rows":         "\x1b[9999L\x1b[9999M\x1b[9999S\x1b[9999T",
		"columns":      "x\x1b[9999@\x1b[9999P",
		"screens":      "\x1b[?1049hx\x1b[?1049l",
		"long strings": "\x1b]0;" + strings.Repeat("x", 1000),
		"parameters":   "\x1b[" + strings.Repeat("1;", 500) + "m",
	} {
		t.Run(name, func(t *testing.T) {
			p := pty(t, 1000, 1000)
			for range 10 {
				p.out(strings.Repeat(piece, 1+(32<<10)/len(piece)/10))
			}
			text, printed := 0, 0
			for l := range drawnLines(p.next(io.EOF)) {
				text += len(l.Text)
			}
			for _, f := range p.frames {
				printed += len(f.Data)
			}
			if most := printed / len("\x1b[b") * maxCols; text > most {
				t.Errorf("%d bytes of text for %d bytes, at most %d", text, printed, most)
			}
		})
	}
}
