package query

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// SyntaxError says where a query's text is wrong, and what to write instead.
type SyntaxError struct {
	Pos    int    // byte of the text
	Column int    // the same in characters, from 1
	What   string // what is wrong there, and what to write
}

// Error implements error.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("query, at character %d: %s", e.Column, e.What)
}

// Mark returns the line of the text in which the error is and, below it, a line that points there.
func (e *SyntaxError) Mark(text string) string {
	pos := min(e.Pos, len(text))
	begin := strings.LastIndexByte(text[:pos], '\n') + 1
	line, _, _ := strings.Cut(text[begin:], "\n")
	before := strings.Map(func(r rune) rune { // so that the mark stands below its place
		if r == '\t' {
			return '\t'
		}
		return ' '
	}, text[begin:pos])
	return line + "\n" + before + "^"
}

func (p *parser) fail(pos int, format string, args ...any) error {
	return &SyntaxError{Pos: pos, Column: utf8.RuneCountInString(p.text[:pos]) + 1, What: fmt.Sprintf(format, args...)}
}
