package query

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a query.
const (
	MaxLength = 4096 // bytes of its text, as written and as Format writes it
	maxTerms  = 100
	maxDepth  = 20 // of parentheses and negations
)

// Parse reads a query. Terms stand side by side or with "and", "or" (which binds less) and "not" or
// "-" between and before them, in parentheses at will:
//
//	user:alice@example.com kind:session.* (outcome:denied or outcome:revoked) -host:web-* since:7d
//	reason:~"outage" "rm -rf" screen:"DROP TABLE"
//
// A value ends at white space, a parenthesis or a quote, or stands in double quotes, in which \" is
// a quote and \\ a backslash. A * behind it makes a prefix of it, a ~ before it a substring. What
// has no name is free text, which is looked for anywhere; it is put in quotes where it looks like
// anything else. since and until take a time before now (7d, 2h), a date in now's zone or a time of
// RFC 3339. The empty text is everything. Errors are a *SyntaxError.
func Parse(text string, now time.Time) (Expr, error) {
	p := parser{text: text, now: now}
	x, err := p.whole()
	if err != nil {
		return nil, err
	}
	if n := len(Format(x)); n > MaxLength {
		return nil, p.fail(0, "written out it has %d bytes, at most %d", n, MaxLength)
	}
	return x, nil
}

type parser struct {
	text  string
	pos   int
	now   time.Time
	terms int
	depth int
}

func (p *parser) whole() (Expr, error) {
	switch {
	case len(p.text) > MaxLength:
		return nil, p.fail(0, "it has %d bytes, at most %d", len(p.text), MaxLength)
	case !utf8.ValidString(p.text):
		return nil, p.fail(0, "it is not UTF-8")
	case strings.Contains(p.text, "\x00"):
		return nil, p.fail(strings.Index(p.text, "\x00"), "a zero byte, which no event holds")
	}
	if p.space(); p.end() {
		return And{}, nil
	}
	x, err := p.or()
	if err == nil && !p.end() {
		err = p.fail(p.pos, "a parenthesis is closed that was not opened")
	}
	return x, err
}

// breaks are the bytes that end a word.
const (
	white  = " \t\r\n"
	breaks = white + "()\""
)

func (p *parser) end() bool { return p.pos == len(p.text) }

// next reports whether the next byte is one of those.
func (p *parser) next(of string) bool {
	return !p.end() && strings.IndexByte(of, p.text[p.pos]) >= 0
}

func (p *parser) space() {
	for p.next(white) {
		p.pos++
	}
}

// word returns the unquoted word that is next, or "".
func (p *parser) word() string {
	rest := p.text[p.pos:]
	if i := strings.IndexAny(rest, breaks); i >= 0 {
		return rest[:i]
	}
	return rest
}

// keyword takes the word where it is next.
func (p *parser) keyword(word string) bool {
	p.space()
	if !strings.EqualFold(p.word(), word) {
		return false
	}
	p.pos += len(word)
	return true
}

// deeper is called on the way into parentheses and negations.
func (p *parser) deeper(at int) error {
	if p.depth++; p.depth > maxDepth {
		return p.fail(at, "more than %d parentheses and negations in one another", maxDepth)
	}
	return nil
}

// or reads parts joined by "or".
func (p *parser) or() (Expr, error) {
	var parts Or
	for {
		x, err := p.and()
		if err != nil {
			return nil, err
		}
		if parts = append(parts, x); !p.keyword("or") {
			break
		}
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return parts, nil
}

// and reads parts side by side, or joined by "and".
func (p *parser) and() (Expr, error) {
	var parts And
	for {
		x, err := p.not()
		if err != nil {
			return nil, err
		}
		parts = append(parts, x)
		joined := p.keyword("and")
		if p.space(); !joined && (p.end() || p.next(")") || strings.EqualFold(p.word(), "or")) {
			break
		}
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return parts, nil
}

func (p *parser) not() (Expr, error) {
	p.space()
	start := p.pos
	negated := p.keyword("not")
	if !negated && p.next("-") {
		p.pos++
		if negated = true; p.end() || p.next(white+")") {
			return nil, p.fail(start, `a - stands directly before what it leaves out, like -host:web-*; to look for it, write "-"`)
		}
	}
	if !negated && !p.next("(") {
		return p.term()
	}
	if err := p.deeper(start); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if !negated {
		return p.parenthesis()
	}
	x, err := p.not()
	return Not{x}, err
}

func (p *parser) parenthesis() (Expr, error) {
	start := p.pos
	p.pos++
	x, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.space(); !p.next(")") {
		return nil, p.fail(start, "this parenthesis is not closed")
	}
	p.pos++
	return x, nil
}
