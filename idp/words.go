package idp

import (
	"errors"
	"strings"
)

// splitCommands splits a list of commands as $BROWSER holds it: commands stand between sep, the
// words of a command between blanks. Single quotes keep everything, double quotes everything but a
// backslash before " or \, and with escapes a backslash outside quotes keeps the next character.
// No shell is involved: $, * and ; mean nothing. Empty commands are left out.
func splitCommands(list string, sep rune, escapes bool) ([][]string, error) {
	s := splitter{sep: sep, escapes: escapes}
	for _, r := range list {
		s.take(r)
	}
	if s.quote != 0 || s.escaped {
		return nil, errors.New("a quote is not closed, or a backslash ends the text")
	}
	s.endCommand()
	return s.commands, nil
}

// splitter is the state of splitCommands.
type splitter struct {
	sep     rune
	escapes bool

	quote    rune // open quote, or 0
	escaped  bool // the character before was a backslash that counts
	word     strings.Builder
	inWord   bool // also true for an empty quoted word
	command  []string
	commands [][]string
}

func (s *splitter) take(r rune) {
	switch {
	case s.escaped:
		if s.quote == '"' && r != '"' && r != '\\' {
			s.word.WriteRune('\\')
		}
		s.escaped = false
		s.add(r)
	case r == '\\' && (s.quote == '"' || s.quote == 0 && s.escapes):
		s.escaped, s.inWord = true, true
	case s.quote != 0 && r == s.quote:
		s.quote = 0
	case s.quote != 0:
		s.add(r)
	case r == '\'' || r == '"':
		s.quote, s.inWord = r, true
	case r == s.sep:
		s.endCommand()
	case r == ' ' || r == '\t' || r == '\n':
		s.endWord()
	default:
		s.add(r)
	}
}

func (s *splitter) add(r rune) {
	s.word.WriteRune(r)
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
