package awsconfig

import (
	"fmt"
	"strings"
)

// around is how many unchanged lines a diff shows before and after changed ones.
const around = 3

// step is a line of a diff: kept, taken out or put in.
type step struct {
	sign byte // ' ', '-' or '+'
	text string
}

// Diff shows what was edited since the file was parsed, as a unified diff; empty where nothing was.
// Lines know where they came from and are never put in another order, so nothing is searched for.
func (f *File) Diff(name string) string {
	steps := f.steps()
	var b strings.Builder
	old, fresh := 1, 1
	for at := 0; at < len(steps); {
		from, to := hunk(steps, at)
		if from == to {
			break
		}
		for _, s := range steps[at:from] {
			old, fresh = advance(s, old, fresh)
		}
		if b.Len() == 0 {
			fmt.Fprintf(&b, "--- %s\n+++ %s\n", name, name)
		}
		oldEnd, freshEnd := old, fresh
		for _, s := range steps[from:to] {
			oldEnd, freshEnd = advance(s, oldEnd, freshEnd)
		}
		fmt.Fprintf(&b, "@@ -%s +%s @@\n", span(old, oldEnd), span(fresh, freshEnd))
		for _, s := range steps[from:to] {
			b.WriteByte(s.sign)
			b.WriteString(veil(s.text))
			if !strings.HasSuffix(s.text, "\n") {
				b.WriteString("\n\\ No newline at end of file\n")
			}
		}
		at, old, fresh = to, oldEnd, freshEnd
	}
	return b.String()
}

// veil covers the value of a property that is secret: a diff is made to be shown.
func veil(text string) string {
	l := line{text: text}
	if key := l.key(); key != "aws_secret_access_key" && key != "aws_session_token" && key != "aws_security_token" {
		return text
	}
	name, _, _ := split(l.content())
	return l.indent() + name + " = ***" + l.end("")
}

func advance(s step, old, fresh int) (int, int) {
	if s.sign != '+' {
		old++
	}
	if s.sign != '-' {
		fresh++
	}
	return old, fresh
}

// span is how a hunk names lines: where none is left, the one before.
func span(from, to int) string {
	n := to - from
	if n == 0 {
		from--
	}
	return fmt.Sprintf("%d,%d", from, n)
}

// hunk returns the next part of a diff with changes, and some lines around them.
func hunk(steps []step, at int) (from, to int) {
	first := at
	for first < len(steps) && steps[first].sign == ' ' {
		first++
	}
	if first == len(steps) {
		return at, at
	}
	last := first
	for i := first; i < len(steps) && i <= last+2*around; i++ {
		if steps[i].sign != ' ' {
			last = i
		}
	}
	return max(at, first-around), min(len(steps), last+1+around)
}

func (f *File) steps() (out []step) {
	next := 0 // of the lines as they were
	take := func(to int) {
		for ; next < to; next++ {
			out = append(out, step{'-', f.was[next]})
		}
	}
	each := func(l line) {
		switch {
		case l.from == 0:
			out = append(out, step{'+', l.text})
		case l.text == f.was[l.from-1]:
			take(l.from - 1)
			out = append(out, step{' ', l.text})
			next = l.from
		default:
			take(l.from)
			out = append(out, step{'+', l.text})
		}
	}
	for _, l := range f.top {
		each(l)
	}
	for _, s := range f.Sections {
		for _, l := range s.lines {
			each(l)
		}
	}
	take(len(f.was))
	return out
}
