package browse

import (
	"slices"
	"strings"

	"sega/audit"
	"sega/audit/query"
)

// completion is what tab goes through: it lasts until another key is pressed.
type completion struct {
	from    int      // the rune at which what is completed begins
	options []string // whole texts from there on
	next    int
}

// Bounds of what is offered.
const (
	suggestLimit  = 20
	longestOption = 256 // bytes
)

// suggestions are what the term before the cursor may become.
func (m *model) suggestions() completion {
	from := m.query.At
	for from > 0 && !strings.ContainsRune(" ()", m.query.Text[from-1]) {
		from--
	}
	if from < m.query.At && m.query.Text[from] == '-' {
		from++
	}
	term := string(m.query.Text[from:m.query.At])
	name, value, hasName := strings.Cut(term, ":")
	c := completion{from: from}
	switch {
	case hasName:
		c.options = m.values(query.Name(strings.ToLower(name)), value)
	case term != "":
		c.options = beginning(fields(), term)
	}
	if len(c.options) == 1 && strings.TrimRight(c.options[0], " ") == term {
		c.options = nil
	}
	return c
}

// fields are the names with their colon, those that reviewers need most first.
func fields() []string {
	var out []string
	for _, n := range query.Names() {
		out = append(out, string(n)+":")
	}
	return append(out, "since:", "until:", "screen:")
}

// values are what a field may be followed by: closed lists, and what the list on the screen has.
func (m *model) values(n query.Name, begun string) []string {
	var found []string
	switch n {
	case query.Outcome:
		found = []string{string(audit.Denied), string(audit.Failure), string(audit.Revoked), string(audit.Unknown), string(audit.Success), string(audit.Intent)}
	case query.Kind:
		found = kinds()
	case "since", "until":
		found = []string{"1h", "24h", "7d", "30d"}
	case query.User, query.Role, query.Host:
		for _, r := range m.list.rows {
			found = append(found, nameOf(n, r.event))
		}
		slices.Sort(found)
		found = slices.Compact(found)
	}
	var out []string
	for _, v := range beginning(found, begun) {
		if n == query.User || n == query.Role || n == query.Host {
			out = append(out, query.Format(query.Field{Name: n, Value: v})+" ")
			continue
		}
		out = append(out, string(n)+":"+v+" ")
	}
	return out
}

// nameOf is the value by which an event is found again.
func nameOf(n query.Name, e audit.Event) string {
	switch n {
	case query.User:
		return firstOf(e.Actor.Email, e.Actor.Sub)
	case query.Role:
		return named(e.Resource, audit.ResourceRole)
	case query.Host:
		return named(e.Resource, audit.ResourceHost)
	}
	return ""
}

func named(resource, kind string) string {
	if name, ok := strings.CutPrefix(resource, kind); ok {
		return name
	}
	return ""
}

// kinds are the closed list, with each noun's own pattern before its kinds.
func kinds() []string {
	var out []string
	for _, k := range audit.Kinds() {
		noun, _, _ := strings.Cut(k, ".")
		if pattern := noun + ".*"; !slices.Contains(out, pattern) {
			out = append(out, pattern)
		}
		out = append(out, k)
	}
	return out
}

func beginning(options []string, with string) []string {
	var out []string
	for _, o := range options {
		if o != "" && len(o) <= longestOption && strings.HasPrefix(strings.ToLower(o), strings.ToLower(with)) && len(out) < suggestLimit {
			out = append(out, o)
		}
	}
	return out
}

// complete puts the first suggestion into the query, and with the key pressed again the next.
func (m *model) complete() {
	if len(m.tab.options) == 0 {
		if m.tab = m.suggestions(); len(m.tab.options) == 0 {
			return
		}
	}
	option := []rune(m.tab.options[m.tab.next%len(m.tab.options)])
	m.tab.next++
	m.query.Text = slices.Concat(m.query.Text[:m.tab.from], option, m.query.Text[m.query.At:])
	m.query.At = m.tab.from + len(option)
	if len(m.tab.options) == 1 { // nothing to go through: the next tab completes what comes next
		m.tab = completion{}
	}
}
