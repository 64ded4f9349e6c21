package awsconfig

import (
	"bytes"
	"strings"
)

// mark is a byte order mark, which some editors leave at the start of a file.
const mark = "\ufeff"

// File is the text of ~/.aws/config or ~/.aws/credentials.
type File struct {
	mark     string   // or nothing
	newline  string   // what lines of ours end with
	was      []string // lines as they were parsed
	top      []line   // before the first section
	Sections []*Section
}

// Parse reads a file. There is no text that it refuses: what it does not know is kept.
func Parse(data []byte) *File {
	f := &File{newline: "\n"}
	text := string(data)
	if rest, ok := strings.CutPrefix(text, mark); ok {
		f.mark, text = mark, rest
	}
	var r reader
	number := 0
	for one := range strings.Lines(text) {
		number++
		if number == 1 && strings.HasSuffix(one, "\r\n") {
			f.newline = "\r\n"
		}
		f.was = append(f.was, one)
		l := line{one, r.kind(one), number}
		switch {
		case l.kind == header:
			f.Sections = append(f.Sections, newSection(l))
		case len(f.Sections) == 0:
			f.top = append(f.top, l)
		default:
			last := f.Sections[len(f.Sections)-1]
			last.lines = append(last.lines, l)
		}
	}
	return f
}

// Bytes is the file's text: where nothing was edited, the very one that was parsed.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	b.WriteString(f.mark)
	for _, l := range f.top {
		b.WriteString(l.text)
	}
	for _, s := range f.Sections {
		for _, l := range s.lines {
			b.WriteString(l.text)
		}
	}
	return b.Bytes()
}
