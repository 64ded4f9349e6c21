package browse

import (
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"sega/audit"
	"sega/audit/query"
	"sega/cmd/sega/tui"
)

// visit is where a jump came from.
type visit struct {
	query   string
	intents bool
	asked   question
	list    window
	kept    bool // the list is still there: going back asks nothing
	detail  detail
	at      place
}

// Bounds of the way back.
const (
	historyLimit = 50
	keptLimit    = 3 // lists that stay in memory
)

// target is where a key leads from an event.
type target struct {
	key, name, value string
	field            query.Name
}

// targets are the jumps that an event has.
func (r row) targets() []target {
	e := r.event
	all := []target{
		{"s", "session", r.session(), query.Session}, {"l", "login", e.LoginID, query.Session}, {"u", "user", nameOf(query.User, e), query.User}, {"a", "action", e.Action, query.Action},
		{"h", "host", nameOf(query.Host, e), query.Host}, {"r", "role", nameOf(query.Role, e), query.Role},
	}
	return slices.DeleteFunc(all, func(t target) bool { return t.value == "" || t.key == "l" && t.value == r.session() })
}

// jump sets the query to what the chosen event shares with others.
func (m *model) jump(key string) tea.Cmd {
	r, ok := m.current()
	if !ok {
		return nil
	}
	for _, t := range r.targets() {
		if t.key == key {
			return m.visit(query.Format(query.Field{Name: t.field, Value: t.value}), t.field == query.Action)
		}
	}
	m.notice = map[string]string{"s": "this event belongs to no session", "l": "this event belongs to no other login", "u": "this event names no user", "a": "this event joins no action",
		"h": "this event is about no host", "r": "this event is about no role"}[key]
	return nil
}

// visit goes to another query, and remembers the way back.
func (m *model) visit(text string, intents bool) tea.Cmd {
	m.history = append(m.history, visit{m.query.String(), m.intents, m.asked, m.list, true, m.detail, m.at})
	if len(m.history) > historyLimit {
		m.history = slices.Delete(m.history, 0, 1)
	}
	if i := len(m.history) - 1 - keptLimit; i >= 0 {
		m.history[i].list, m.history[i].kept = window{}, false
	}
	m.setQuery(text, intents)
	m.at, m.list = onList, window{}
	return m.follow()
}

func (m *model) setQuery(text string, intents bool) {
	m.query, m.intents, m.syntax = tui.NewInput(text, query.MaxLength), intents, ""
	m.edits++ // a rest that is awaited means the query before
}

// goBack returns to where the last jump came from.
func (m *model) goBack() tea.Cmd {
	if len(m.history) == 0 {
		return nil
	}
	v := m.history[len(m.history)-1]
	m.history = m.history[:len(m.history)-1]
	m.cancel()
	m.request++ // what is under way answers another question
	m.setQuery(v.query, v.intents)
	m.failed = ""
	if !v.kept {
		m.at, m.list, m.asked = onList, window{}, question{}
		return m.follow()
	}
	m.at, m.list, m.detail, m.asked = v.at, v.list, v.detail, v.asked
	return m.follow() // where the query was edited and not yet asked
}

// related are the events of the list that share the action or the session of one, in its order.
func (m *model) related(of row) []row {
	var out []row
	for _, r := range m.list.rows {
		same := of.event.Action != "" && r.event.Action == of.event.Action || of.session() != "" && r.session() == of.session()
		if same && r.index != of.index {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b row) int { return rank(of.event, a.event) - rank(of.event, b.event) })
	return out[:min(len(out), relatedLimit)]
}

// relatedLimit is the number of keys for them.
const relatedLimit = 9

// rank puts events of the same action first.
func rank(of, e audit.Event) int {
	if of.Action != "" && e.Action == of.Action {
		return 0
	}
	return 1
}
