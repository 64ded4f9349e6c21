package broker

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"sega/audit"
)

// Redaction finds secrets in what people typed, so that the log never holds them (R11). What its
// first capture group that takes part matches, or all of the match, is replaced by [redacted:NAME].
type Redaction struct {
	Name    string
	Pattern string // RE2, which takes linear time; "" with the name of a default switches that off
}

// DefaultRedactions look for secrets that have a form of their own, a name in front of them, or a
// program's flag. They take the beginning of a secret for one: a long command comes cut. A name may
// stand in JSON, in JSON within a text, in a URL or in a program.
func DefaultRedactions() []Redaction {
	const (
		name  = `(?:password|passwd|passphrase|secret|token|api[_-]?key|(?:\b|_|db)(?:pass|pwd)|(?-i:[a-z]P(?:ass|wd)))`
		is    = `(?:\\?['"]|%2[27])?\s*(?:=>|:=|=|:|%3[ad])\s*`
		value = `("(?:[^"\\]|\\.)*"?|'[^']*'?|(?:[^\s;|&'"\\]|\\.)+(?:"[^"\s]*"|'[^'\s]*')*)`
		args  = `\b[^|;&\n]*?\s`
		pair  = `(?:"[^":]*:([^"]+)|'[^':]*:([^']+)|[^\s:'"]*:((?:[^\s;|&\\]|\\.)+))`
	)
	return []Redaction{
		{"password", `(?is)` + name + `(?:_?key)?` + is + value},
		{"password-flag", `(?is)(?:^|\s)--?[\w-]*` + name + `\s+` + value},
		{"password-option", `(?s)\b(?:(?:mysql|mariadb)[\w-]*` + args + `-p|sshpass` + args + `-p\s*|redis-cli` + args + `-a\s*|(?:docker|podman|nerdctl|buildah|skopeo|helm)` + args + `login` + args + `-p[\s=]*)` + value},
		{"user-password", `(?s)\bcurl` + args + `(?:-u|-U|--user|--proxy-user)[\s=]*` + pair},
		{"url-password", `(?i)[a-z][a-z0-9+.-]*://[^\s/:@]*:([^\s/@]+)@`},
		{"aws-secret-key", `(?i)secret_?access_?key['"]?[\s=:]+['"]?([a-z0-9/+=]+)`},
		{"authorization", `(?i)(?:\bbearer|authorization['"]?\s*[:=]\s*['"]?\w+)\s+([\w.~+/=-]+)`},
		{"basic", `\b(?:Basic\s+([A-Za-z0-9+/]{8,}={0,2})|(?i:basic)\s+([A-Za-z+/]*[0-9][A-Za-z0-9+/]{4,}={0,2}|[A-Za-z0-9+/]{6,}=))`},
		{"private-key", `-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`},
		{"sega-token", `sega_[a-z]+_[\w-]+`},
		{"vendor-token", `\b(?:gh[opsur]_\w{6,}|github_pat_\w{6,}|glpat-[\w-]{6,}|xox[a-z]-[\w-]{6,}|xapp-[\w-]{6,}|npm_[A-Za-z0-9]{10,}|pypi-[\w-]{10,}|[rs]k_live_\w{6,}|AIza[\w-]{10,}|hv[sbr]\.[\w-]{6,}|dop_v1_\w{6,})`},
		{"age-identity", `AGE-SECRET-KEY-1[A-Za-z0-9]*`},
		{"jwt", `eyJ[\w-]{8,}\.[\w.-]+`},
	}
}

// Bounds of redaction.
const (
	maxRedactions = 100
	maxPattern    = 1000      // bytes
	maxRedacted   = 128 << 10 // bytes of one text of a report: what lies beyond is cut off
)

// redactor holds patterns that are ready for use. It is safe for concurrent use.
type redactor struct{ patterns []pattern }

type pattern struct {
	name string
	*regexp.Regexp
}

var redactionName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// newRedactor compiles the defaults and more; one of more with the name of a default takes its place.
func newRedactor(more []Redaction) (*redactor, error) {
	if len(more) > maxRedactions {
		return nil, fmt.Errorf("broker: %d redactions, at most %d", len(more), maxRedactions)
	}
	all := slices.DeleteFunc(DefaultRedactions(), func(d Redaction) bool {
		return slices.ContainsFunc(more, func(m Redaction) bool { return m.Name == d.Name })
	})
	isDefault := func(name string) bool {
		return slices.ContainsFunc(DefaultRedactions(), func(d Redaction) bool { return d.Name == name })
	}
	r, seen := &redactor{}, map[string]bool{}
	for _, v := range append(all, more...) {
		switch {
		case !redactionName.MatchString(v.Name):
			return nil, fmt.Errorf("broker: redaction %.40q: a name has small letters, digits and hyphens, at most 32", v.Name)
		case seen[v.Name]:
			return nil, fmt.Errorf("broker: redaction %q is configured twice", v.Name)
		case v.Pattern == "" && !isDefault(v.Name):
			return nil, fmt.Errorf("broker: redaction %q has no pattern, and there is no default of that name to switch off", v.Name)
		}
		if seen[v.Name] = true; v.Pattern == "" {
			continue
		}
		re, err := compileRedaction(v.Pattern)
		if err != nil {
			return nil, fmt.Errorf("broker: redaction %q: %w", v.Name, err)
		}
		r.patterns = append(r.patterns, pattern{v.Name, re})
	}
	return r, nil
}

func compileRedaction(text string) (*regexp.Regexp, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("a pattern of %d bytes, at most %d", len(text), maxPattern)
	}
	re, err := regexp.Compile(text)
	if err == nil && re.MatchString("") {
		err = errors.New("the pattern matches the empty text, so it would match everywhere")
	}
	return re, err
}

// span is a part of a text that must go.
type span struct {
	from, to int
	name     string
}

// text returns a text without what the patterns find, and how many places that were. Every pattern
// sees the text as it was; what they find in one another goes as one.
func (r *redactor) text(s string) (string, int) {
	var spans []span
	for _, p := range r.patterns {
		for _, m := range p.FindAllStringSubmatchIndex(s, -1) {
			v := span{m[0], m[1], p.name}
			for i := 2; i < len(m); i += 2 {
				if m[i] >= 0 {
					v.from, v.to = m[i], m[i+1]
					break
				}
			}
			if v.from < v.to {
				spans = append(spans, v)
			}
		}
	}
	if len(spans) == 0 {
		return s, 0
	}
	return cutOut(s, merged(spans))
}

// merged returns spans in order, those that overlap as one, which has the name of the first.
func merged(spans []span) []span {
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	out := spans[:1]
	for _, v := range spans[1:] {
		if last := &out[len(out)-1]; v.from < last.to {
			last.to = max(last.to, v.to)
		} else {
			out = append(out, v)
		}
	}
	return out
}

func cutOut(s string, spans []span) (string, int) {
	var b strings.Builder
	at := 0
	for _, v := range spans {
		b.WriteString(s[at:v.from])
		b.WriteString("[redacted:" + v.name + "]")
		at = v.to
	}
	b.WriteString(s[at:])
	return b.String(), len(spans)
}

// details returns the details of a kind of event as the log may hold them: for a kind with content
// without what the patterns find in its texts, and with "redacted", their number, where there are
// any. Details of such a kind must be an object; what cannot be read is an error.
func (r *redactor) details(kind string, raw json.RawMessage) (json.RawMessage, error) {
	if !audit.HasContent(kind) || len(raw) == 0 {
		return raw, nil
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil || fields == nil {
		return nil, fmt.Errorf("details of %s are not an object: %w", kind, cmp.Or(err, errors.New("null")))
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("details of %s go on after their object", kind)
	}
	w := walk{redactor: r}
	cleaned := w.object(fields)
	if w.found > 0 {
		cleaned["redacted"] = w.found
	}
	if w.cut {
		cleaned["cut"] = true
	}
	// The same JSON in one form: a name that stood there twice, or in another spelling, hides nothing.
	return json.Marshal(cleaned)
}

// walk goes through the texts of some details.
type walk struct {
	*redactor
	found int
	cut   bool
}

func (w *walk) object(fields map[string]any) map[string]any {
	out := make(map[string]any, len(fields))
	texts := w.found
	names := slices.Sorted(maps.Keys(fields))
	for _, name := range names {
		if !strings.EqualFold(name, "raw") {
			out[unused(out, w.string(name))] = w.field(name, fields[name])
		}
	}
	texts = w.found - texts
	for _, name := range names {
		v := fields[name]
		if !strings.EqualFold(name, "raw") {
			continue
		}
		if kept, ok := w.bytes(v, texts); ok {
			out[name] = kept
		}
	}
	return out
}

// unused returns a name, with a number where others have become the same.
func unused(taken map[string]any, name string) string {
	free := name
	for i := 2; ; i++ {
		if _, is := taken[free]; !is {
			return free
		}
		free = fmt.Sprint(name, " ", i)
	}
}

// field is the value of a name, gone where the name says that it is a secret: where the patterns would
// find it as NAME=VALUE. Whether there is one, true or false, is none.
func (w *walk) field(name string, v any) any {
	const probe = "=x"
	switch v := v.(type) {
	case nil, bool:
		return v
	case string:
		if v == "" {
			return v
		}
	}
	if len(name) <= maxRedacted {
		if mark, ok := strings.CutPrefix(w.cleaned(name+probe), name+probe[:1]); ok && mark != probe[1:] {
			w.found++
			return mark
		}
	}
	return w.value(v)
}

func (w *walk) cleaned(s string) string {
	out, _ := w.text(s)
	return out
}

func (w *walk) value(v any) any {
	switch v := v.(type) {
	case string:
		return w.string(v)
	case map[string]any:
		return w.object(v)
	case []any:
		for i, item := range v {
			v[i] = w.value(item)
		}
	}
	return v
}

func (w *walk) string(s string) string {
	if len(s) > maxRedacted {
		s, w.cut = strings.ToValidUTF8(s[:maxRedacted], ""), true
	}
	out, n := w.text(s)
	w.found += n
	return out
}

// bytes is string for base64 of bytes that are not UTF-8. They say once more what stands in a text
// beside them, so what is found here is not counted. Where they do not say the same, so that a
// pattern may have found less in them than in the text, they are left out.
func (w *walk) bytes(v any, texts int) (string, bool) {
	encoded, _ := v.(string)
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) > maxRedacted {
		return "", false
	}
	clean, n := w.text(string(raw))
	if n != texts {
		w.found += max(0, n-texts)
		return "", false
	}
	return base64.StdEncoding.EncodeToString([]byte(clean)), true
}
