package query

import (
	"errors"
	"slices"
	"strings"
	"time"

	"sega/audit"
)

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
