package picker

import (
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"sega/cmd/sega/tui"
)

// Bounds of what is typed, in bytes; of reason and ticket the broker keeps as much.
const (
	queryLimit  = 200
	reasonLimit = 1000
	ticketLimit = 100
)

// place is where the keys go.
type place int

const (
	onList place = iota
	onReason
	onTicket
)

// model is the whole state of the picker. Update changes it in place.
type model struct {
	Config
	keys   bindings
	styles tui.Styles

	width, height int
	at            place
	query         tui.Input
	refused       bool // those that are not allowed, too
	notice        string

	rows        []row
	hits        []hit
	widths      columns // natural ones, of the hits
	cursor, top int

	answer tui.Input // to what is asked
	choice Choice
	picked bool
}

func newModel(c Config) *model {
	m := &model{Config: c, keys: newBindings(), styles: tui.NewStyles(c.Colour, false), width: 80, height: 24, query: tui.NewInput("", queryLimit)}
	for _, r := range c.Roles {
		m.rows = append(m.rows, newRow(r))
	}
	m.filter()
	return m
}

// filter makes the list anew, and begins at its top.
func (m *model) filter() {
	m.hits = rank(m.rows, m.query.String(), m.refused)
	m.widths = natural(m.hits)
	m.cursor, m.top = 0, 0
}

// Init implements tea.Model.
func (m *model) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyMsg:
		cmd = m.press(msg)
	}
	m.show()
	return m, cmd
}

// press handles a key. What is typed or pasted is text, whatever key it is called like.
func (m *model) press(msg tea.KeyMsg) tea.Cmd {
	m.notice = ""
	typed := msg.Type == tea.KeyRunes || msg.Type == tea.KeySpace
	switch {
	case key.Matches(msg, m.keys.kill) && !typed:
		return tea.Quit
	case m.at == onList && typed:
		m.edit(msg)
		return nil
	case m.at == onList:
		return m.pressList(msg)
	case typed:
		m.answer.Key(msg)
		return nil
	}
	return m.pressAnswer(msg)
}

func (m *model) pressList(msg tea.KeyMsg) tea.Cmd {
	page := m.listHeight()
	switch {
	case key.Matches(msg, m.keys.leave):
		return tea.Quit
	case key.Matches(msg, m.keys.pick):
		return m.pick()
	case key.Matches(msg, m.keys.all):
		m.toggle()
	case key.Matches(msg, m.keys.up):
		m.cursor--
	case key.Matches(msg, m.keys.down):
		m.cursor++
	case key.Matches(msg, m.keys.pageUp):
		m.cursor -= page
	case key.Matches(msg, m.keys.pageDown):
		m.cursor += page
	case key.Matches(msg, m.keys.first):
		m.cursor = 0
	case key.Matches(msg, m.keys.last):
		m.cursor = len(m.hits)
	default:
		m.edit(msg)
	}
	return nil
}

// edit changes the query, and the list with it.
func (m *model) edit(msg tea.KeyMsg) {
	before := m.query.String()
	if m.query.Key(msg); m.query.String() != before {
		m.filter()
	}
}

// toggle shows or hides what is not allowed. The cursor stays on its role where that is still listed.
func (m *model) toggle() {
	chosen, ok := m.chosen()
	m.refused = !m.refused
	m.filter()
	for i, h := range m.hits {
		if ok && h.row == chosen.row {
			m.cursor = i
		}
	}
}

func (m *model) chosen() (hit, bool) {
	if len(m.hits) == 0 {
		return hit{}, false
	}
	return m.hits[m.cursor], true
}

// pick takes the chosen role, and asks for what it needs.
func (m *model) pick() tea.Cmd {
	h, ok := m.chosen()
	switch {
	case !ok:
		m.notice = "nothing to pick"
	case h.role.Refused != "":
		m.notice = h.need
	default:
		m.choice = Choice{Role: h.role.Name, Reason: m.Reason, Ticket: m.Ticket}
		return m.ask(h.role)
	}
	return nil
}

// ask goes on to what is needed and not given yet; with nothing left the choice stands.
func (m *model) ask(r Role) tea.Cmd {
	switch {
	case r.NeedsReason && strings.TrimSpace(m.choice.Reason) == "":
		m.at, m.answer = onReason, tui.NewInput("", reasonLimit)
	case r.NeedsTicket && strings.TrimSpace(m.choice.Ticket) == "":
		m.at, m.answer = onTicket, tui.NewInput("", ticketLimit)
	default:
		m.picked = true
		return tea.Quit
	}
	return nil
}

// pressAnswer edits the answer to what is asked, takes it, or goes back to the list.
func (m *model) pressAnswer(msg tea.KeyMsg) tea.Cmd {
	switch {
	case key.Matches(msg, m.keys.leave):
		m.at = onList
		return nil
	case !key.Matches(msg, m.keys.pick):
		m.answer.Key(msg)
		return nil
	}
	text := strings.TrimSpace(m.answer.String())
	if text == "" {
		m.notice = "the role is not given without one"
		return nil
	}
	if m.at == onReason {
		m.choice.Reason = text
	} else {
		m.choice.Ticket = text
	}
	h, _ := m.chosen()
	return m.ask(h.role)
}

// show keeps the cursor in the list and on the screen, which is full where it can be.
func (m *model) show() {
	height := m.listHeight()
	m.cursor = max(min(m.cursor, len(m.hits)-1), 0)
	m.top = min(m.top, m.cursor)
	m.top = max(m.top, m.cursor-height+1)
	m.top = max(min(m.top, len(m.hits)-height), 0)
}
