package screen

import (
	"iter"
	"time"
	"unicode"
	"unicode/utf8"
)

// plain takes the lines of a stream that no terminal shows.
type plain struct {
	now, at time.Duration
	line    []byte
	broken  bool // the last character was U+FFFD: a run of them is one
	yield   func(Line)
}

// print implements sink.
func (p *plain) print(r rune) {
	if r == utf8.RuneError && p.broken || unicode.Is(unicode.Cf, r) {
		return
	}
	p.broken = r == utf8.RuneError
	p.line = utf8.AppendRune(p.line, r)
	p.at = p.now
	if len(p.line) >= maxText {
		p.flush()
	}
}

// control implements sink. A carriage return ends a line as well: nothing is overwritten here.
func (p *plain) control(b byte) {
	switch b {
	case '\n', '\r', '\v', '\f':
		p.flush()
	case '\t':
		p.print('\t')
	}
}

// sequence implements sink.
func (p *plain) sequence(sequence) {}

func (p *plain) flush() {
	for text := range cut(string(p.line)) {
		if !blankText(text) {
			p.yield(Line{Offset: p.at, Text: text})
		}
	}
	p.line, p.broken = p.line[:0], false
}

func blankText(s string) bool {
	for _, r := range s {
		if !unicode.IsSpace(r) {
			return false
		}
	}
	return true
}

// cut yields a text in pieces of maxText bytes at most, between characters.
func cut(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(s) > maxText {
			n := maxText
			for n > maxText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
				n--
			}
			if !yield(s[:n]) {
				return
			}
			s = s[n:]
		}
		yield(s)
	}
}
