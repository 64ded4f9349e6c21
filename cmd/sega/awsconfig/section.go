package awsconfig

import (
	"slices"
	"strings"
)

// Section is a section of a file: its line in brackets and all lines up to the next one.
type Section struct {
	Title string // what stands in the brackets
	Type  string // "profile", "sso-session", "services"; empty where the title is one word
	Name  string // without quotes
	Line  int    // number in the file as it was parsed; 0 for a new section

	lines []line // the header first
}

func newSection(l line) *Section {
	title, _ := bracketed(l.content())
	s := &Section{Title: strings.Trim(title, white), Line: l.from, lines: []line{l}}
	words, ok := shellWords(s.Title)
	switch {
	case ok && len(words) == 2:
		s.Type, s.Name = words[0], words[1]
	case ok && len(words) == 1:
		s.Name = words[0]
	default: // more words than botocore takes; the SDK for Go knows such names
		kind, name, _ := strings.Cut(s.Title, " ")
		s.Type, s.Name = kind, strings.Trim(name, white)
	}
	return s
}

// Profile is the name of the profile that a section of ~/.aws/config describes; empty for other sections.
func (s *Section) Profile() string {
	switch {
	case s.Type == "profile":
		return s.Name
	case s.Title == "default":
		return s.Title
	}
	return ""
}

// Get returns the value of a property, without a comment behind it.
func (s *Section) Get(key string) (value string, ok bool) {
	if at := s.find(key); at > 0 {
		return uncomment(s.lines[at].raw()), true
	}
	return "", false
}

func (s *Section) find(key string) int {
	return slices.IndexFunc(s.lines, func(l line) bool { return l.kind == property && l.key() == key })
}

// shellWords splits as a POSIX shell does, by quotes and backslashes alone (Python's shlex.split). ok
// is false where a quote is not closed.
func shellWords(s string) (words []string, ok bool) {
	var word strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == '\'' && c != '\'', quote == '"' && c != '"' && c != '\\':
			word.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\':
			i++
			if i == len(s) {
				return nil, false
			}
			if quote == '"' && s[i] != '"' && s[i] != '\\' {
				word.WriteByte('\\')
			}
			in = true
			word.WriteByte(s[i])
		case quote == 0 && (c == '\'' || c == '"'):
			in, quote = true, c
		case strings.IndexByte(white, c) >= 0:
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		default:
			in = true
			word.WriteByte(c)
		}
	}
	if in {
		words = append(words, word.String())
	}
	return words, quote == 0
}
