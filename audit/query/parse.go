package query

import (
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sega/audit"
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

// term reads name:value or free text.
func (p *parser) term() (Expr, error) {
	start := p.pos
	if p.terms++; p.terms > maxTerms {
		return nil, p.fail(start, "more than %d terms", maxTerms)
	}
	word := p.word()
	if err := p.misplaced(word); err != nil {
		return nil, err
	}
	name, _, named := strings.Cut(word, ":")
	if !named || name == "" {
		return p.free()
	}
	p.pos += len(name) + 1
	lower := strings.ToLower(name)
	if !isName(lower) {
		return nil, p.fail(start, "there is no field %.40q; fields are %s. To look for the text itself, put it in double quotes", name, fieldList())
	}
	v, err := p.value(lower)
	if err != nil {
		return nil, err
	}
	return p.build(start, lower, v)
}

// misplaced says what is missing where no term can begin.
func (p *parser) misplaced(word string) error {
	switch {
	case word == "" && p.end():
		return p.fail(p.pos, "a term is missing at the end, like kind:session.* or \"some text\"")
	case word == "" && p.next(")"):
		return p.fail(p.pos, "a term is missing before this parenthesis")
	case strings.EqualFold(word, "or"), strings.EqualFold(word, "and"):
		return p.fail(p.pos, "%q stands where a term should; to look for the word, put it in double quotes", word)
	}
	return nil
}

// free reads free text.
func (p *parser) free() (Expr, error) {
	start := p.pos
	if p.next(`"`) {
		text, err := p.quoted()
		switch {
		case err != nil:
			return nil, err
		case text == "":
			return nil, p.fail(start, "the text to look for is empty")
		}
		return Text{Value: text}, p.ended()
	}
	text := p.word()
	p.pos += len(text)
	name, value, assigned := strings.Cut(text, "=")
	switch {
	case assigned && isName(strings.ToLower(name)):
		return nil, p.fail(start, "a field is followed by a colon: %s:%.40s. To look for the text itself, put it in double quotes", strings.ToLower(name), value)
	case strings.HasPrefix(text, "~"):
		return nil, p.fail(start, "a ~ stands behind a field, like reason:~outage; text without a field is looked for anywhere. To look for the ~ too, use double quotes")
	case strings.HasSuffix(text, "*"):
		return nil, p.fail(start, "text without a field is looked for anywhere, so leave the * out. To look for the * too, use double quotes")
	}
	return Text{Value: text}, p.ended()
}

// value is what stands behind a name.
type value struct {
	text string
	op   Op
}

func (p *parser) value(name string) (v value, err error) {
	start := p.pos
	if p.next("~") {
		v.op = Contains
		p.pos++
	}
	if p.next(`"`) {
		if v.text, err = p.quoted(); err != nil {
			return v, err
		}
		if v.op == Equal && p.next("*") {
			v.op = Prefix
			p.pos++
		}
		return v, p.ended()
	}
	v.text = p.word()
	p.pos += len(v.text)
	if prefix, ok := strings.CutSuffix(v.text, "*"); ok && v.op == Equal {
		v.text, v.op = prefix, Prefix
	} else if v.text == "" {
		return v, p.fail(start, "%s: is followed by its value, without white space; one with white space stands in double quotes", name)
	}
	return v, p.ended()
}

// ended checks that a term ends where it should.
func (p *parser) ended() error {
	if !p.end() && !p.next(white+"()") {
		return p.fail(p.pos, "a term ends here; put white space behind it, or the whole value in double quotes, with \\\" for a quote in it")
	}
	return nil
}

// quoted reads a text in double quotes.
func (p *parser) quoted() (string, error) {
	start := p.pos
	var b strings.Builder
	for p.pos++; !p.end(); p.pos++ {
		switch c := p.text[p.pos]; c {
		case '"':
			p.pos++
			return b.String(), nil
		case '\\':
			if p.pos++; !p.next(`"\`) {
				return "", p.fail(p.pos-1, `in double quotes a backslash is written \\ and a quote \"`)
			}
			fallthrough
		default:
			b.WriteByte(p.text[p.pos])
		}
	}
	return "", p.fail(start, "this quote is not closed")
}

// Term returns the term of a field for a value that stands by itself, as behind a flag: all of it is
// the value, white space and quotes too, but for a * behind it or a ~ before it.
func Term(name, text string, now time.Time) (Expr, error) {
	v := value{text: text}
	if after, ok := strings.CutPrefix(text, "~"); ok {
		v.text, v.op = after, Contains
	} else if before, ok := strings.CutSuffix(text, "*"); ok {
		v.text, v.op = before, Prefix
	}
	p := parser{text: text, now: now}
	x, err := p.build(0, name, v)
	if syntax, ok := errors.AsType[*SyntaxError](err); ok {
		return nil, errors.New(syntax.What)
	}
	return x, err
}

func (p *parser) build(start int, name string, v value) (Expr, error) {
	switch name {
	case fieldScreen:
		if v.text == "" || v.op == Prefix {
			return nil, p.fail(start, `screen is followed by a part of what was shown, like screen:"DROP TABLE"`)
		}
		return Screen{Value: v.text}, nil
	case fieldSince, fieldUntil:
		if v.op != Equal {
			return nil, p.fail(start, "%s takes a time like %s", name, timeForms)
		}
		at, err := ParseTime(v.text, p.now)
		switch {
		case err != nil:
			return nil, p.fail(start, "%s: %s", name, err)
		case name == fieldSince:
			return Since{At: at}, nil
		}
		return Until{At: at}, nil
	case string(Outcome):
		if v.op == Equal && !slices.Contains(outcomes(), audit.Outcome(v.text)) {
			return nil, p.fail(start, "an outcome is intent, success, failure, denied, revoked or unknown")
		}
	}
	return Field{Name: Name(name), Op: v.op, Value: v.text}, nil
}

func outcomes() []audit.Outcome {
	return []audit.Outcome{audit.Intent, audit.Success, audit.Failure, audit.Denied, audit.Revoked, audit.Unknown}
}

// Names that are no fields of an event.
const (
	fieldSince  = "since"
	fieldUntil  = "until"
	fieldScreen = "screen"
)

func names() []string {
	var all []string
	for _, n := range Names() {
		all = append(all, string(n))
	}
	return append(all, fieldSince, fieldUntil, fieldScreen)
}

func isName(s string) bool { return slices.Contains(names(), s) }

func fieldList() string { return strings.Join(names(), ", ") }
