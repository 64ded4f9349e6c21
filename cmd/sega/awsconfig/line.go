package awsconfig

import "strings"

type kind uint8

const (
	blank kind = iota
	comment
	header       // [section]
	property     // key = value
	continuation // indented deeper than the property whose value it belongs to
	garbage      // none of these
)

// white is what surrounds words of a line.
const white = " \t\r\n\v\f"

// line is one line of a file.
type line struct {
	text string // as it stands in the file, with its end
	kind kind
	from int // its number in the file as it was parsed; 0 for a new one
}

// content is the line without indentation, and without its end.
func (l line) content() string { return strings.Trim(l.text, white) }

// indent is the white space at the line's start.
func (l line) indent() string {
	return l.text[:len(l.text)-len(strings.TrimLeft(l.text, " \t\v\f"))]
}

// key is the name of a property, in lower case: names are the same in any case.
func (l line) key() string {
	name, _, _ := split(l.content())
	return strings.ToLower(name)
}

// raw is the value of a property as botocore reads it: all that stands behind the delimiter.
func (l line) raw() string {
	_, value, _ := split(l.content())
	return value
}

// split takes a property apart at the first of its two delimiters.
func split(s string) (name, value string, ok bool) {
	at := strings.IndexAny(s, "=:")
	if at < 0 {
		return "", "", false
	}
	name = strings.TrimRight(s[:at], white)
	return name, strings.TrimLeft(s[at+1:], white), name != ""
}

// uncomment cuts a comment off behind a value, as the SDKs for Go and JavaScript do. botocore takes
// it for a part of the value.
func uncomment(value string) string {
	for i := 1; i < len(value); i++ {
		if (value[i] == '#' || value[i] == ';') && strings.IndexByte(white, value[i-1]) >= 0 {
			return strings.TrimRight(value[:i-1], white)
		}
	}
	return value
}

// reader gives lines their kinds, by what stood before them.
type reader struct {
	indent int  // of the last section, property or garbage
	open   bool // a property whose value may go on
}

func (r *reader) kind(text string) kind {
	l := line{text: text}
	s := l.content()
	if s == "" {
		return blank
	}
	if s[0] == '#' || s[0] == ';' {
		return comment
	}
	indent := len(l.indent())
	if r.open && indent > r.indent {
		return continuation
	}
	r.indent = indent
	if _, ok := bracketed(s); ok {
		r.open = false
		return header
	}
	if _, _, ok := split(s); ok {
		r.open = true
		return property
	}
	return garbage
}

// bracketed returns what stands in the brackets of a section's line: before a comment, as the SDK
// for Go has it, else up to the last bracket, as botocore has it.
func bracketed(s string) (string, bool) {
	if s[0] != '[' {
		return "", false
	}
	if at := strings.IndexAny(s, "#;"); at > 0 {
		if before := strings.TrimRight(s[:at], white); strings.HasSuffix(before, "]") {
			s = before
		}
	}
	end := strings.LastIndexByte(s, ']')
	if end <= 1 {
		return "", false
	}
	return s[1:end], true
}
