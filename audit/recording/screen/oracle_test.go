package screen

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hinshun/vt10x"
)

// TestAgainstEmulator draws random streams on our screen and on that of a terminal emulator. Left
// out is what that one does otherwise than xterm: wide characters, insert mode, ED 1, and how the
// cursor moves at margins.
func TestAgainstEmulator(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		cols, rows := 2+r.IntN(30), 2+r.IntN(10)
		var stream strings.Builder
		for range r.IntN(200) {
			stream.WriteString(step(r, cols, rows))
		}
		theirs := vt10x.New(vt10x.WithSize(cols, rows))
		if _, err := theirs.Write([]byte(stream.String())); err != nil {
			t.Fatal(err)
		}
		ours := newTerminal(cols, rows, newWork(math.MaxInt64), func(Line) {})
		newParser(ours).write([]byte(stream.String()))
		if want, got := theirs.String(), drawn(ours); got != want {
			t.Fatalf("seed %d, %d×%d, %q:\nours\n%s\ntheirs\n%s", seed, cols, rows, stream.String(), got, want)
		}
	}
}

func step(r *rand.Rand, cols, rows int) string {
	n := r.IntN(5)
	switch r.IntN(24) {
	case 0, 1, 2, 3, 4, 5:
		return strings.Repeat(string(rune('a'+r.IntN(26))), 1+n)
	case 6:
		return "\r\n"
	case 7:
		return "\n"
	case 8:
		return "\b"
	case 9:
		return "\t"
	case 10:
		return "\r"
	case 11:
		return fmt.Sprintf("\x1b[%d;%dH", 1+r.IntN(rows), 1+r.IntN(cols))
	case 12:
		return fmt.Sprintf("\x1b[%d%c", 1+n, "CDGd"[r.IntN(4)])
	case 13:
		return fmt.Sprintf("\x1b[%dJ", 2*r.IntN(2))
	case 14:
		return fmt.Sprintf("\x1b[%dK", r.IntN(3))
	case 15:
		return fmt.Sprintf("\x1b[%d%c", 1+n, "@PX"[r.IntN(3)])
	case 16:
		return fmt.Sprintf("\x1b[%d%c\r", 1+n, "LM"[r.IntN(2)])
	case 17:
		return fmt.Sprintf("\x1b[%d%c", 1+n, "ST"[r.IntN(2)])
	case 18:
		return []string{"\x1bD\r", "\x1bM\r", "\x1bE", "\x1b7", "\x1b8\r"}[r.IntN(5)]
	case 19:
		top := 1 + r.IntN(rows-1)
		return fmt.Sprintf("\x1b[%d;%dr", top, top+1+r.IntN(rows-top))
	case 20:
		return "\x1b[1;31mx\x1b[0m"
	case 21:
		return "\x1b[r"
	case 22:
		return "\x1b(0qx\x1b(B"
	}
	return "word "
}

// drawn is a screen as the emulator prints its own.
func drawn(t *terminal) string {
	var b strings.Builder
	for _, r := range t.on.rows {
		for x := range t.cols {
			if c := r.get(x); c > 0 {
				b.WriteRune(rune(c))
			} else {
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
