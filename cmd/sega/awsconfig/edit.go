package awsconfig

import (
	"errors"
	"slices"
	"strings"
)

// errUnsound is a file whose lines would mean something else after an edit of others.
var errUnsound = errors.New("an indented section of the file would become a part of the one before: write its [ at the start of the line")

// Sound checks that every line is read, in the edited text, as it was before.
func (f *File) Sound() error {
	again := Parse(f.Bytes())
	if len(again.Sections) != len(f.Sections) || !sameKinds(again.top, f.top) {
		return errUnsound
	}
	for i, s := range f.Sections {
		if !sameKinds(again.Sections[i].lines, s.lines) {
			return errUnsound
		}
	}
	return nil
}

func sameKinds(a, b []line) bool {
	return slices.EqualFunc(a, b, func(a, b line) bool { return a.kind == b.kind && a.text == b.text })
}

// last are the lines at the end of a file.
func (f *File) last() *[]line {
	if n := len(f.Sections); n > 0 {
		return &f.Sections[n-1].lines
	}
	return &f.top
}

// endLine ends the last line, where it does not, so that another can follow.
func (f *File) endLine() {
	lines := *f.last()
	if n := len(lines); n > 0 && !strings.HasSuffix(lines[n-1].text, "\n") {
		lines[n-1].text += f.newline
	}
}

// text is the section as it stands in the file.
func (s *Section) text() string {
	var b strings.Builder
	for _, l := range s.lines {
		b.WriteString(l.text)
	}
	return b.String()
}

// folded reports whether a property's value goes on in lines below it.
func (s *Section) folded(at int) bool {
	for _, l := range s.lines[at+1:] {
		if l.kind != blank && l.kind != comment {
			return l.kind == continuation
		}
	}
	return false
}

// set gives a property a value. One that is new goes behind the property after, or to the top. It
// stands as deep as its neighbour: deeper, and it would be a part of that one's value, less deep,
// and that one a part of its own.
func (s *Section) set(key, value, after, newline string) {
	if at := s.find(key); at > 0 {
		if l := s.lines[at]; l.raw() != value {
			name, _, _ := split(l.content())
			s.lines[at].text = l.indent() + name + " = " + value + l.end(newline)
		}
		return
	}
	at := max(s.find(after), 0)
	s.insert(at+1, s.depth(at)+key+" = "+value, property, newline)
}

// depth is the indentation of the property at a line, or of the first below it.
func (s *Section) depth(at int) string {
	for _, l := range s.lines[at:] {
		if l.kind == property || l.kind == garbage {
			return l.indent()
		}
	}
	return ""
}

func (s *Section) insert(at int, text string, k kind, newline string) {
	if before := &s.lines[at-1]; !strings.HasSuffix(before.text, "\n") {
		before.text += newline
	}
	s.lines = slices.Insert(s.lines, at, line{text: text + newline, kind: k})
}

// end is what a line ends with, which a file's last line may lack.
func (l line) end(newline string) string {
	if !strings.HasSuffix(l.text, "\n") {
		return newline
	}
	return l.text[len(strings.TrimRight(l.text, "\r\n")):]
}

// body is the number of lines up to the last that says something: what comes behind it, blank
// lines and comments, belongs to what follows as much as to this section.
func (s *Section) body() int {
	n := len(s.lines)
	for n > 1 && (s.lines[n-1].kind == blank || s.lines[n-1].kind == comment) {
		n--
	}
	return n
}
