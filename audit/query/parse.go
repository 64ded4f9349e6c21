package query

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sega/audit"
)

// Bounds of a query.
const (
	MaxLength = 4096 // bytes of its text
	maxTerms  = 100
	maxDepth  = 20
)

// SyntaxError says where a query's text is wrong, and what to write instead.
type SyntaxError struct {
	Pos  int // byte
	What string
}

// Error implements error.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("query, at character %d: %s", e.Pos+1, e.What)
}

// Parse reads a query. Terms stand side by side or with "and", "or" (which binds less) and "not" or
// "-" between and before them, in parentheses at will:
//
//	user:alice@example.com kind:session.* (outcome:denied or outcome:revoked) -host:web-* since:7d
//	reason:~"outage" "rm -rf" screen:"DROP TABLE"
//
// A value ends at white space or a parenthesis, or stands in double quotes, in which \ escapes the
// next character. A * behind it makes a prefix of it, a ~ before it a substring. What has no name
// is free text. since and until take a time before now (7d, 2h), a date or a time of RFC 3339.
// The empty text is everything. Errors are a *SyntaxError.
func Parse(text string, now time.Time) (Expr, error) {
	p := parser{text: text, now: now}
	x, err := p.whole()
	if err != nil {
		return nil, err
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

func (p *parser) fail(pos int, format string, args ...any) error {
	return &SyntaxError{Pos: pos, What: fmt.Sprintf(format, args...)}
}

func (p *parser) whole() (Expr, error) {
	switch {
	case len(p.text) > MaxLength:
		return nil, p.fail(MaxLength, "it has %d bytes, at most %d", len(p.text), MaxLength)
	case !utf8.ValidString(p.text):
		return nil, p.fail(0, "it is not UTF-8")
	}
	if p.space(); p.pos == len(p.text) {
		return And{}, nil
	}
	x, err := p.or()
	if err == nil && p.pos < len(p.text) {
		err = p.fail(p.pos, "a parenthesis is closed that was not opened")
	}
	return x, err
}

func (p *parser) space() {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
}

// or reads parts joined by "or".
func (p *parser) or() (Expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail(p.pos, "more than %d parentheses deep", maxDepth)
	}
	defer func() { p.depth-- }()
	var parts []Expr
	for {
		x, err := p.and()
		if err != nil {
			return nil, err
		}
		parts = append(parts, x)
		if !p.keyword("or") {
			break
		}
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return Or(parts), nil
}

// and reads parts side by side.
func (p *parser) and() (Expr, error) {
	var parts []Expr
	for {
		x, err := p.not()
		if err != nil {
			return nil, err
		}
		parts = append(parts, x)
		joined := p.keyword("and")
		if p.space(); !joined && (p.pos == len(p.text) || p.text[p.pos] == ')' || p.peek("or")) {
			break
		}
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return And(parts), nil
}

func (p *parser) not() (Expr, error) {
	p.space()
	start := p.pos
	if p.keyword("not") || strings.HasPrefix(p.text[p.pos:], "-") && p.skip(1) {
		if p.depth++; p.depth > maxDepth {
			return nil, p.fail(start, "more than %d parentheses deep", maxDepth)
		}
		defer func() { p.depth-- }()
		x, err := p.not()
		return Not{x}, err
	}
	if strings.HasPrefix(p.text[p.pos:], "(") {
		p.pos++
		x, err := p.or()
		if err != nil {
			return nil, err
		}
		if p.space(); !strings.HasPrefix(p.text[p.pos:], ")") {
			return nil, p.fail(start, "this parenthesis is not closed")
		}
		p.pos++
		return x, nil
	}
	return p.term()
}

func (p *parser) skip(n int) bool { p.pos += n; return true }

// peek reports whether a keyword is next.
func (p *parser) peek(word string) bool {
	end := p.pos + len(word)
	return end <= len(p.text) && strings.EqualFold(p.text[p.pos:end], word) && (end == len(p.text) || strings.IndexByte(" \t\r\n()", p.text[end]) >= 0)
}

func (p *parser) keyword(word string) bool {
	p.space()
	return p.peek(word) && p.skip(len(word))
}

// value is what stands behind a name, or alone.
type value struct {
	text   string
	op     Op
	quoted bool
}

func (p *parser) term() (Expr, error) {
	start := p.pos
	if p.terms++; p.terms > maxTerms {
		return nil, p.fail(start, "more than %d terms", maxTerms)
	}
	name := ""
	if i := strings.IndexAny(p.text[start:], ": \t\r\n()\""); i > 0 && p.text[start+i] == ':' {
		name = strings.ToLower(p.text[start : start+i])
		p.pos += i + 1
	}
	if name != "" && !named[name] {
		return nil, p.fail(start, "there is no field %q; fields are %s. To look for the text itself, put it in double quotes", name, fieldList)
	}
	v, err := p.value(name != "")
	if err != nil {
		return nil, err
	}
	return p.build(start, name, v)
}

func (p *parser) value(named bool) (value, error) {
	v, start := value{}, p.pos
	if named && strings.HasPrefix(p.text[p.pos:], "~") {
		v.op = Contains
		p.pos++
	}
	if strings.HasPrefix(p.text[p.pos:], `"`) {
		text, err := p.quoted()
		if err != nil {
			return v, err
		}
		v.text, v.quoted = text, true
		if named && v.op == Equal && strings.HasPrefix(p.text[p.pos:], "*") {
			v.op = Prefix
			p.pos++
		}
	} else {
		end := strings.IndexAny(p.text[p.pos:], " \t\r\n()\"")
		if end < 0 {
			end = len(p.text) - p.pos
		}
		v.text = p.text[p.pos : p.pos+end]
		p.pos += end
		if prefix, ok := strings.CutSuffix(v.text, "*"); ok && named && v.op == Equal {
			v.text, v.op = prefix, Prefix
		}
	}
	if p.pos < len(p.text) && strings.IndexByte(" \t\r\n()", p.text[p.pos]) < 0 {
		return v, p.fail(p.pos, "a quoted value ends at its second quote; put white space behind it")
	}
	if v.text == "" && !v.quoted && v.op != Prefix {
		return v, p.fail(start, "a value is missing")
	}
	return v, nil
}

// quoted reads a text in double quotes.
func (p *parser) quoted() (string, error) {
	start := p.pos
	var b strings.Builder
	for p.pos++; p.pos < len(p.text); p.pos++ {
		switch c := p.text[p.pos]; {
		case c == '"':
			p.pos++
			return b.String(), nil
		case c == '\\' && p.pos+1 < len(p.text):
			p.pos++
			b.WriteByte(p.text[p.pos])
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail(start, "this quote is not closed")
}

func (p *parser) build(start int, name string, v value) (Expr, error) {
	switch name {
	case "":
		if v.text == "" {
			return nil, p.fail(start, "the text to look for is empty")
		}
		return Text{Value: v.text}, nil
	case "screen":
		if v.text == "" || v.op == Prefix {
			return nil, p.fail(start, "screen is followed by the text that was shown, like screen:\"DROP TABLE\"")
		}
		return Screen{Value: v.text}, nil
	case "since", "until":
		at, err := ParseTime(v.text, p.now)
		if err != nil || v.op != Equal {
			return nil, p.fail(start, "%s takes a time like 7d, 2h, 2026-01-31 or 2026-01-31T08:00:00Z", name)
		}
		if name == "since" {
			return Since{At: at}, nil
		}
		return Until{At: at}, nil
	case string(Outcome):
		if v.op == Equal && !slices.Contains(outcomes, audit.Outcome(v.text)) {
			return nil, p.fail(start, "an outcome is intent, success, failure, denied, revoked or unknown")
		}
	}
	return Field{Name: Name(name), Op: v.op, Value: v.text}, nil
}

var outcomes = []audit.Outcome{audit.Intent, audit.Success, audit.Failure, audit.Denied, audit.Revoked, audit.Unknown}

var named, fieldList = func() (map[string]bool, string) {
	all, list := map[string]bool{}, []string{}
	for _, n := range Names() {
		all[string(n)], list = true, append(list, string(n))
	}
	for _, n := range []string{"since", "until", "screen"} {
		all[n], list = true, append(list, n)
	}
	return all, strings.Join(list, ", ")
}()

var ago = regexp.MustCompile(`^(\d{1,6})([smhdw])$`)

// ParseTime reads a time before now like 7d (s, m, h, d, w), a date in now's zone, or a time of RFC 3339.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if m := ago.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1])
		unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[m[2]]
		if n <= int(math.MaxInt64/unit) { // 292 years
			return now.Add(-time.Duration(n) * unit).UTC(), nil
		}
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return t.UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q is not a time like 7d, 2h, 2026-01-31 or 2026-01-31T08:00:00Z", s)
	}
	return t.UTC(), nil
}
