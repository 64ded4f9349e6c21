package screen

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// played makes a tape of what script(1) recorded of a program: its output, and a file with a line
// for each piece, of seconds since the one before and bytes.
func played(t *testing.T, name string, cols, rows uint32) *tape {
	t.Helper()
	out, err := os.ReadFile("testdata/" + name + ".out")
	if err != nil {
		t.Fatal(err)
	}
	timing, err := os.ReadFile("testdata/" + name + ".timing")
	if err != nil {
		t.Fatal(err)
	}
	p := pty(t, cols, rows)
	for line := range strings.Lines(string(timing)) {
		var seconds float64
		var n int
		if _, err := fmt.Sscan(line, &seconds, &n); err != nil || n > len(out) {
			t.Fatalf("%s: %q: %v", name, line, err)
		}
		p.wait(time.Duration(seconds * float64(time.Second))).out(string(out[:n]))
		out = out[n:]
	}
	if len(out) > 0 {
		t.Fatalf("%s: %d bytes are not in its timing", name, len(out))
	}
	return p
}

// TestBash: a shell with corrections by backspace, a line from the history that is edited, a line
// that wraps, wide characters, and more rows than the screen has.
func TestBash(t *testing.T) {
	as := strings.Repeat("a", 90)
	want := []string{
		`bash-5.2# stty rows 24 cols 80; PS1="$ "; clear`,
		`$ printf 'DROP TABL'; printf 'E users\n'`, "DROP TABLE users",
		"$ echo wrong grüße 你好", "wrong grüße 你好",
		"$ echo one; echo one", "one", "one",
		"$ echo wrong grüße 你好 # again", "wrong grüße 你好",
		"$ echo " + as + " | tr a b; for i in $(seq 30); do echo row $i; done", strings.Repeat("b", 90),
	}
	for i := range 30 {
		want = append(want, fmt.Sprintf("row %d", i+1))
	}
	want = append(want, "$ exit", "exit")
	if diff := cmp.Diff(want, played(t, "bash", 80, 24).texts()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestVi: a file that is opened, changed and left.
func TestVi(t *testing.T) {
	got := played(t, "vi", 80, 24).texts()
	for _, want := range []string{
		"$ vi -u NONE -N notes.txt", "first line of notes", "third line", "last line", "new end",
		"the password is in the vault and not here", "$ echo back", "back",
	} {
		if n := count(got, want); n != 1 {
			t.Errorf("%q is there %d times", want, n)
		}
	}
	if n := count(got, "~"); n > 1 {
		t.Errorf("%d lines of a tilde", n)
	}
}

// TestLess: a pager that goes back and forth shows each line once, and so does a program that
// paints its screen twice a second.
func TestLess(t *testing.T) {
	got := played(t, "less", 80, 20).texts()
	for i := 1; i <= 57; i++ {
		if n := count(got, fmt.Sprintf("entry %d of the log", i)); n != 1 {
			t.Errorf("entry %d is there %d times", i, n)
		}
	}
	for _, want := range []string{"entry 150 of the log", "first line of notes", "the password is in the vault", "$ less long.txt", "$ exit"} {
		if n := count(got, want); n != 1 {
			t.Errorf("%q is there %d times", want, n)
		}
	}
}

func count(lines []string, want string) (n int) {
	for _, l := range lines {
		if l == want {
			n++
		}
	}
	return n
}
