package browse

import (
	"context"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"sega/audit/query"
	"sega/cmd/sega/tui"
)

// place is where the keys go.
type place int

const (
	onQuery place = iota
	onList
	onDetail
	onReason // the question before a replay
)

// model is the whole state of the browser. Update changes it in place.
type model struct {
	Config
	ctx     context.Context // of the browser: every request is part of it
	fetches fetches
	keys    bindings
	styles  tui.Styles

	width, height int
	at            place
	help          bool
	helpOffset    int

	query   tui.Input
	syntax  string // what is wrong with the query, once typing has rested
	edits   int    // counts changes of the query: an older rest means nothing
	tab     completion
	intents bool // events of the outcome intent too

	asked   question // what the list answers, or will
	list    window
	loaded  time.Time // when the broker last answered; zero before it did
	request int       // counts requests: the answer to an older one is dropped
	stop    context.CancelFunc
	failed  string // what the last request or replay failed with
	notice  string

	detail  detail
	reason  tui.Input
	replay  string // the session for which a reason is asked
	back    place  // where the question came from
	history []visit
}

// rest is how long typing rests before the broker is asked.
const rest = 350 * time.Millisecond

// rested says that nothing was typed since the edit of that count.
type rested struct{ edit int }

func newModel(ctx context.Context, c Config) *model {
	return &model{Config: c, ctx: ctx, keys: newBindings(), styles: tui.NewStyles(c.Colour, false), width: 80, height: 24, query: tui.NewInput(c.Query, query.MaxLength)}
}

// Init implements tea.Model: the first page comes at once.
func (m *model) Init() tea.Cmd { return m.follow() }

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyMsg:
		cmd = m.press(msg)
	case rested:
		if msg.edit == m.edits {
			cmd = m.follow()
		}
	case page:
		m.arrive(msg)
	case played:
		m.played(msg)
	}
	m.list.show(m.listHeight())
	return m, cmd
}

// press handles a key.
func (m *model) press(msg tea.KeyMsg) tea.Cmd {
	m.notice = ""
	if msg.Type == tea.KeyRunes && (len(msg.Runes) > 1 || msg.Paste) && !msg.Alt {
		return m.pressMany(msg)
	}
	switch {
	case key.Matches(msg, m.keys.kill):
		return tea.Quit
	case key.Matches(msg, m.keys.suspend):
		return tea.Suspend
	case m.help:
		m.pressHelp(msg)
		return nil
	case m.at == onReason:
		return m.pressReason(msg)
	case key.Matches(msg, m.keys.refresh) && (m.at != onQuery || msg.Type != tea.KeyRunes):
		return m.refresh()
	case key.Matches(msg, m.keys.help) && (m.at != onQuery || msg.Type != tea.KeyRunes):
		m.help, m.helpOffset = true, 0
		return nil
	case m.at == onQuery:
		return m.pressQuery(msg)
	case m.at == onDetail:
		return m.pressDetail(msg)
	}
	return m.pressList(msg)
}

// pressMany takes runes that arrived at once. Typed together they could be taken for the name of a
// key ("end"); pasted they are text, and nothing where no text is asked for.
func (m *model) pressMany(msg tea.KeyMsg) tea.Cmd {
	switch {
	case m.at == onReason:
		m.reason.Key(msg)
	case m.at == onQuery && !m.help:
		return m.typed(msg)
	case !msg.Paste:
		var all []tea.Cmd
		for _, r := range msg.Runes {
			all = append(all, m.press(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}}))
		}
		return tea.Batch(all...)
	}
	return nil
}

func (m *model) pressQuery(msg tea.KeyMsg) tea.Cmd {
	switch {
	case key.Matches(msg, m.keys.complete):
		m.complete()
		return m.edited()
	case msg.Type == tea.KeyEsc: // backspace edits
		m.at = onList
		return nil
	case key.Matches(msg, m.keys.open):
		return m.enter()
	case key.Matches(msg, m.keys.arrows):
		return m.walk(msg)
	}
	return m.typed(msg)
}

// typed edits the query.
func (m *model) typed(msg tea.KeyMsg) tea.Cmd {
	before := m.query.String()
	m.query.Key(msg)
	m.tab = completion{}
	if m.query.String() == before {
		return nil
	}
	return m.edited()
}

// enter opens the chosen event; where the query has changed since, its answer comes first.
func (m *model) enter() tea.Cmd {
	q, err := m.questionOf(m.query.String())
	if err == nil {
		m.at = onList
	}
	if err != nil || q.key != m.asked.key {
		return m.follow()
	}
	m.open()
	return nil
}

// edited waits until typing rests.
func (m *model) edited() tea.Cmd {
	m.edits++
	edit := m.edits
	if _, err := m.questionOf(m.query.String()); err == nil {
		m.syntax = ""
	}
	return tea.Tick(rest, func(time.Time) tea.Msg { return rested{edit} })
}

func (m *model) pressList(msg tea.KeyMsg) tea.Cmd {
	switch {
	case key.Matches(msg, m.keys.quit):
		return tea.Quit
	case key.Matches(msg, m.keys.leave):
		if len(m.history) == 0 && msg.Type == tea.KeyEsc {
			return tea.Quit
		}
		return m.goBack()
	case key.Matches(msg, m.keys.edit):
		m.at = onQuery
	case key.Matches(msg, m.keys.open):
		m.open()
	case key.Matches(msg, m.keys.intents):
		m.intents = !m.intents
		return m.follow()
	case key.Matches(msg, m.keys.jumps):
		return m.jump(msg.String())
	case key.Matches(msg, m.keys.replay):
		m.askReason()
	default:
		return m.walk(msg)
	}
	return nil
}

// walk moves the cursor of the list, and loads what it comes near to.
func (m *model) walk(msg tea.KeyMsg) tea.Cmd {
	height := m.listHeight()
	by := map[string]int{"up": -1, "k": -1, "ctrl+p": -1, "down": 1, "j": 1, "ctrl+n": 1, "pgup": -height, "pgdown": height, " ": height, "home": -rowsLimit, "g": -rowsLimit, "end": rowsLimit, "G": rowsLimit}
	if m.list.newer && by[msg.String()] == -rowsLimit {
		return m.ask(fresh) // the top has been dropped
	}
	m.list.move(by[msg.String()], height)
	return m.more()
}
