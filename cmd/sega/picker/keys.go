package picker

import "github.com/charmbracelet/bubbles/key"

// bindings are the keys of the list; what is none of them edits the query.
type bindings struct {
	pick, leave, kill, all, up, down, pageUp, pageDown, first, last key.Binding
}

func newBindings() bindings {
	bind := func(keys ...string) key.Binding { return key.NewBinding(key.WithKeys(keys...)) }
	return bindings{
		pick: bind("enter"), leave: bind("esc"), kill: bind("ctrl+c"), all: bind("tab"),
		up: bind("up", "ctrl+p"), down: bind("down", "ctrl+n"), pageUp: bind("pgup"), pageDown: bind("pgdown"),
		first: bind("ctrl+home"), last: bind("ctrl+end"),
	}
}
