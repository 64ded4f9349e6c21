package browse

import "github.com/charmbracelet/bubbles/key"

// bindings are the keys, with what the help says of them.
type bindings struct {
	arrows, move, open, edit, leave, quit, complete, refresh, replay, jumps, intents, neighbours, related, help, suspend, kill key.Binding
}

func bind(shown, what string, keys ...string) key.Binding {
	return key.NewBinding(key.WithKeys(keys...), key.WithHelp(shown, what))
}

func newBindings() bindings {
	return bindings{
		arrows:     bind("↑ ↓ PgUp PgDn", "move in the list meanwhile", "up", "down", "pgup", "pgdown", "ctrl+p", "ctrl+n"),
		move:       bind("↑ ↓ j k PgUp PgDn g G", "move; in the detail: scroll"),
		open:       bind("Enter", "the event in detail", "enter"),
		edit:       bind("/", "edit the query", "/"),
		leave:      bind("Esc Backspace", "back; Esc leaves where there is no way back", "esc", "backspace"),
		quit:       bind("q", "leave", "q"),
		complete:   bind("Tab", "complete a field or a value; again: the next", "tab"),
		refresh:    bind("F  Ctrl-R", "ask for what is new", "F", "ctrl+r"),
		replay:     bind("p", "replay the SSH session, after asking why", "p"),
		jumps:      bind("s l u a h r", "all of this session, login, user, action, host, role", "s", "l", "u", "a", "h", "r"),
		intents:    bind("i", "show or hide what was begun (outcome intent)", "i"),
		neighbours: bind("← →", "in the detail: the event above, below", "left", "right"),
		related:    bind("1 to 9", "in the detail: a related event", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
		help:       bind("?  F1", "this help", "?", "f1"),
		suspend:    bind("Ctrl-Z", "suspend", "ctrl+z"),
		kill:       bind("Ctrl-C", "leave, from anywhere", "ctrl+c"),
	}
}
