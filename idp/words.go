package idp

import (
	"errors"
	"strings"
)

// splitCommands splits a list of commands as $BROWSER holds it: commands stand between sep, the
// words of a command between blanks. Single quotes keep everything, and so do double quotes. With
// escapes a backslash keeps the next character outside quotes, and " or \ inside double quotes.
// No shell is involved: $, * and ; mean nothing. Empty commands are left out.
func splitCommands(list string, sep byte, escapes bool) ([][]string, error) {
	s := splitter{sep: sep, escapes: escapes}
	for i := range len(list) { // bytes, not runes: a path need not be UTF-8
		s.take(list[i])
	}
	if s.quote != 0 || s.escaped {
		return nil, errors.New("a quote is not closed, or a backslash ends the text")
	}
	s.endCommand()
	return s.commands, nil
}

// splitter is the state of splitCommands.
type splitter struct {
	sep     byte
	escapes bool

	quote    byte // open quote, or 0
	escaped  bool // the character before was a backslash that counts
	word     strings.Builder
	inWord   bool // also true for an empty quoted word
	command  []string
	commands [][]string
}

func (s *splitter) take(c byte) {
	switch {
	case s.escaped:
		if s.quote == '"' && c != '"' && c != '\\' {
			s.word.WriteByte('\\')
		}
		s.escaped = false
		s.add(c)
	case c == '\\' && s.escapes && s.quote != '\'':
		s.escaped, s.inWord = true, true
	case s.quote != 0 && c == s.quote:
		s.quote = 0
	case s.quote != 0:
		s.add(c)
	case c == '\'' || c == '"':
		s.quote, s.inWord = c, true
	case c == s.sep:
		s.endCommand()
	case c == ' ' || c == '\t' || c == '\n':
		s.endWord()
	default:
		s.add(c)
	}
}

func (s *splitter) add(c byte) {
	s.word.WriteByte(c)
	s.inWord = true
}

func (s *splitter) endWord() {
	if s.inWord {
		s.command = append(s.command, s.word.String())
	}
	s.word.Reset()
	s.inWord = false
}

func (s *splitter) endCommand() {
	s.endWord()
	if len(s.command) > 0 {
		s.commands = append(s.commands, s.command)
	}
	s.command = nil
}
