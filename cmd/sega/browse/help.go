package browse

import (
	"slices"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"sega/cmd/sega/tui"
)

// helpName is the width of the keys' names in the help.
const helpName = 23

// pressHelp scrolls; every other key closes the help.
func (m *model) pressHelp(msg tea.KeyMsg) {
	if !slices.Contains([]string{"up", "down", "pgup", "pgdown", "j", "k", " "}, msg.String()) {
		m.help = false
		return
	}
	m.helpOffset = scrolled(m.helpOffset, msg.String(), len(m.helpLines()), m.bodyHeight())
}

// helpLines are the keys, and how a query is written.
func (m *model) helpLines() []string {
	k := m.keys
	var out []string
	for _, group := range []struct {
		title string
		keys  []key.Binding
	}{
		{"in the query", []key.Binding{k.complete, k.arrows, k.open, bind("Esc", "to the list")}},
		{"in the list and in the detail", []key.Binding{k.move, k.open, k.edit, k.jumps, k.replay, k.intents, k.neighbours, k.related, k.leave, k.quit}},
		{"everywhere", []key.Binding{bind("F  Ctrl-R", k.refresh.Help().Desc+" (in the query: Ctrl-R)"), bind("?  F1", "this help (in the query: F1)"), k.suspend, k.kill}},
		{"how a query is written", []key.Binding{bind("user:alice@example.com", "a field and its value"), bind("kind:session.*", "a beginning"), bind("reason:~outage", "a part, in letters of either case"),
			bind(`"rm -rf"`, "text of reasons, commands, paths"), bind("since:7d until:2h", "from and to: before now, or a date"), bind("-host:web-* (a or b)", "not, or; side by side means and")}},
	} {
		out = append(out, m.styles.Strong.Render(tui.Cut(group.title, m.width)))
		for _, b := range group.keys {
			for i, text := range tui.Wrap(b.Help().Desc, m.width-helpName-len(marker)) {
				name := ""
				if i == 0 {
					name = b.Help().Key
				}
				out = append(out, tui.Cut(marker+tui.Fit(name, helpName)+text, m.width))
			}
		}
	}
	return out
}
