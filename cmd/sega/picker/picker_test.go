package picker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/exp/golden"
	"github.com/google/go-cmp/cmp"

	tea "github.com/charmbracelet/bubbletea"

	"sega/cmd/sega/tui"
	"sega/cmd/sega/tui/tuitest"
)

// usual is what an engineer of a small company has.
func usual() []Role {
	return []Role{
		{Name: "dev-admin", Account: "111111111111", Description: "all of the development account", Max: "4h", Mode: "assume-role", Use: 9},
		{Name: "prod-readonly", Account: "222222222222", Description: "looks at production, for those on call", Max: "1h", Mode: "assume-role", NeedsReason: true},
		{Name: "prod-deploy", Account: "222222222222", Description: "what the pipeline does, by hand", Max: "12h", Mode: "web-identity", NeedsReason: true, NeedsTicket: true, NeedsFresh: true, Use: 2},
		{Name: "billing", Account: "333333333333", Description: "請求書を読む", Max: "1h", Mode: "assume-role"},
		{Name: "prod-admin", Account: "222222222222", Description: "everything", Max: "1h", Mode: "assume-role", Refused: `it needs group "oncall" (policy "oncall-prod")`},
	}
}

// screen drives a model without a terminal.
type screen struct {
	*model
	t    *testing.T
	left bool
}

func show(t *testing.T, width, height int, c Config) *screen {
	t.Helper()
	s := &screen{t: t, model: newModel(c)}
	s.styles = tui.NewStyles(false, true)
	s.Update(tea.WindowSizeMsg{Width: width, Height: height})
	return s
}

// press presses keys; a text of several letters is typed letter by letter.
func (s *screen) press(keys ...string) {
	s.t.Helper()
	for _, k := range keys {
		if s.left {
			s.t.Fatalf("%q is pressed after the end", k)
		}
		for _, msg := range messages(k) {
			if _, cmd := s.Update(msg); cmd != nil {
				if _, quits := cmd().(tea.QuitMsg); !quits {
					s.t.Fatalf("%q starts something", k)
				}
				s.left = true
			}
		}
	}
}

func messages(k string) (out []tea.Msg) {
	if msg := tuitest.Key(k); msg.Type != tea.KeyRunes {
		return []tea.Msg{msg}
	}
	for _, r := range k {
		out = append(out, tuitest.Key(string(r)))
	}
	return out
}

// TestGolden holds what the screen looks like. Update with go test -update, and look at it.
func TestGolden(t *testing.T) {
	for name, c := range map[string]struct {
		width, height int
		keys          []string
	}{
		"list 40x10":    {40, 10, nil},
		"list 80x24":    {80, 24, []string{"down"}},
		"list 200x60":   {200, 60, nil},
		"query 80x24":   {80, 24, []string{"prod re"}},
		"all 80x24":     {80, 24, []string{"tab", "down", "down", "down", "down"}},
		"reason 80x24":  {80, 24, []string{"depl", "enter", "INC-7 日本"}},
		"ticket 40x10":  {40, 10, []string{"depl", "enter", "why", "enter"}},
		"nothing 40x10": {40, 10, []string{"zzz"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := show(t, c.width, c.height, Config{Roles: usual()})
			s.press(c.keys...)
			tuitest.Fits(t, s.View(), s.width, s.height)
			var b strings.Builder
			for l := range strings.SplitSeq(s.View(), "\n") {
				b.WriteString(strings.TrimRight(l, " ") + "\n")
			}
			golden.RequireEqual(t, []byte(b.String()))
		})
	}
}

// TestPick is each way to a choice, and out of the picker without one.
func TestPick(t *testing.T) {
	for name, c := range map[string]struct {
		given Config
		keys  []string
		want  Choice // the zero value where nothing was picked
		left  bool
	}{
		"the first":                      {keys: []string{"enter"}, want: Choice{Role: "dev-admin"}, left: true},
		"by a query":                     {keys: []string{"bill", "enter"}, want: Choice{Role: "billing"}, left: true},
		"by arrows":                      {keys: []string{"down", "down", "up", "down", "enter"}, want: Choice{Role: "billing"}, left: true},
		"by Ctrl-N and Ctrl-P":           {keys: []string{"ctrl+n", "ctrl+n", "ctrl+n", "ctrl+p", "enter"}, want: Choice{Role: "billing"}, left: true},
		"not below the end":              {keys: []string{"pgdown", "pgdown", "down", "up", "enter"}, want: Choice{Role: "billing"}, left: true},
		"not above the top":              {keys: []string{"up", "pgup", "enter"}, want: Choice{Role: "dev-admin"}, left: true},
		"a reason":                       {keys: []string{"readonly", "enter", "INC-7 ", "enter"}, want: Choice{Role: "prod-readonly", Reason: "INC-7"}, left: true},
		"a reason and a ticket":          {keys: []string{"deploy", "enter", "why not", "enter", "OPS-1", "enter"}, want: Choice{"prod-deploy", "why not", "OPS-1"}, left: true},
		"a reason given":                 {given: Config{Reason: "INC-8"}, keys: []string{"deploy", "enter", "OPS-1", "enter"}, want: Choice{"prod-deploy", "INC-8", "OPS-1"}, left: true},
		"both given":                     {given: Config{Reason: "r", Ticket: "t"}, keys: []string{"deploy", "enter"}, want: Choice{"prod-deploy", "r", "t"}, left: true},
		"given where it is not needed":   {given: Config{Reason: "r", Ticket: "t"}, keys: []string{"enter"}, want: Choice{"dev-admin", "r", "t"}, left: true},
		"a blank reason is none":         {given: Config{Reason: " "}, keys: []string{"readonly", "enter", "  ", "enter", "x", "enter"}, want: Choice{Role: "prod-readonly", Reason: "x"}, left: true},
		"an empty reason":                {keys: []string{"readonly", "enter", "enter", " ", "enter"}},
		"back from the reason":           {keys: []string{"readonly", "enter", "x", "esc", "ctrl+u", "bill", "enter"}, want: Choice{Role: "billing"}, left: true},
		"back from the ticket":           {keys: []string{"deploy", "enter", "x", "enter", "esc", "enter", "y", "enter", "z", "enter"}, want: Choice{"prod-deploy", "y", "z"}, left: true},
		"not allowed is hidden":          {keys: []string{"prod-admin", "enter"}},
		"not allowed cannot be picked":   {keys: []string{"tab", "prod-admin", "enter"}},
		"Esc":                            {keys: []string{"esc"}, left: true},
		"Ctrl-C":                         {keys: []string{"d", "ctrl+c"}, left: true},
		"Ctrl-C at the reason":           {keys: []string{"readonly", "enter", "x", "ctrl+c"}, left: true},
		"nothing fits":                   {keys: []string{"zzz", "enter"}},
		"what is typed edits the query":  {keys: []string{"billx", "backspace", "enter"}, want: Choice{Role: "billing"}, left: true},
		"a word of the description":      {keys: []string{"pipeline", "enter", "x", "enter", "y", "enter"}, want: Choice{"prod-deploy", "x", "y"}, left: true},
		"Tab twice keeps the chosen one": {keys: []string{"down", "down", "tab", "tab", "enter"}, want: Choice{Role: "billing"}, left: true},
	} {
		t.Run(name, func(t *testing.T) {
			c.given.Roles = usual()
			s := show(t, 80, 24, c.given)
			s.press(c.keys...)
			if s.picked != (c.want != Choice{}) || s.left != c.left {
				t.Fatalf("picked %v, left %v\n%s", s.picked, s.left, s.View())
			}
			if diff := cmp.Diff(c.want, s.choice); s.picked && diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestNamesOfKeys: text that is called like a key is text, pasted or typed at once.
func TestNamesOfKeys(t *testing.T) {
	for _, text := range []string{"enter", "esc", "tab", "ctrl+c", "up"} {
		for _, paste := range []bool{false, true} {
			s := show(t, 80, 24, Config{Roles: usual()})
			if _, cmd := s.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text), Paste: paste}); cmd != nil || s.query.String() != text {
				t.Errorf("%q: the query is %q", text, s.query.String())
			}
		}
	}
	s := show(t, 80, 24, Config{Roles: usual()})
	s.press("readonly", "enter")
	s.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("enter\x1b[2J\nesc"), Paste: true})
	if got := s.answer.String(); s.picked || got != "enter[2J esc" {
		t.Errorf("pasted: %q", got)
	}
}

// TestFits shows every part of the picker on screens of all sizes, with hostile words in all places.
func TestFits(t *testing.T) {
	var roles []Role
	for _, text := range tuitest.Hostile() {
		roles = append(roles, Role{Name: text, Account: text, Description: text, Max: text, Mode: text, NeedsReason: true, NeedsTicket: true, NeedsFresh: true},
			Role{Name: text, Description: text, NeedsReason: true, NeedsTicket: true}, Role{Name: text, Refused: text})
	}
	parts := map[string][]string{"list": nil, "all": {"tab"}, "end": {"pgdown", "pgdown", "pgdown"}, "query": {"日"}, "nothing": {"zzzz", "tab"}, "reason": {"enter", "日", "e", "\u0301"}, "no reason": {"enter", "enter"},
		"refused": {"tab", "pgdown", "pgdown", "pgdown", "pgdown", "pgdown", "enter"}, "ticket": {"enter", "x", "enter", "OPS"}}
	for name, keys := range parts {
		t.Run(name, func(t *testing.T) {
			for i := range tuitest.Hostile() {
				s := show(t, 80, 24, Config{Roles: roles})
				for range i {
					s.press("down")
				}
				s.press(keys...)
				for _, size := range [][2]int{{1, 1}, {2, 2}, {5, 3}, {10, 5}, {20, 6}, {33, 7}, {40, 10}, {60, 12}, {80, 24}, {140, 24}, {200, 60}} {
					s.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
					tuitest.Fits(t, s.View(), s.width, s.height)
				}
			}
		})
	}
	none := show(t, 40, 10, Config{})
	none.press("enter", "down", "tab", "enter")
	tuitest.Fits(t, none.View(), 40, 10)
}

// TestCursorStays: whatever the size becomes, the chosen role is on the screen.
func TestCursorStays(t *testing.T) {
	var roles []Role
	for i := range 500 {
		roles = append(roles, Role{Name: fmt.Sprintf("role-%03d", i), Account: "111111111111", Use: float64(-i)})
	}
	s := show(t, 80, 24, Config{Roles: roles})
	for _, k := range []string{"pgdown", "pgdown", "pgdown", "down", "pgup", "up"} {
		s.press(k)
		for _, size := range [][2]int{{40, 10}, {80, 24}, {20, 3}, {200, 60}, {80, 24}} {
			s.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			h, _ := s.chosen()
			if !strings.Contains(s.View(), arrow+h.name) {
				t.Errorf("%v: %s is not on the screen\n%s", size, h.name, s.View())
			}
		}
	}
	s.press("490", "enter")
	if s.choice.Role != "role-490" {
		t.Errorf("picked %q", s.choice.Role)
	}
}

// TestStyles: without colour nothing is coloured; the chosen role stands out, and styles change no text.
func TestStyles(t *testing.T) {
	for _, colour := range []bool{true, false} {
		s := show(t, 80, 24, Config{Roles: usual()})
		s.styles = tui.NewStyles(colour, false)
		s.press("tab", "pro")
		view := s.View()
		if got := strings.Contains(view, "\x1b[35m"); got != colour {
			t.Errorf("colour %v: what is needed is coloured: %v", colour, got)
		}
		if !strings.Contains(view, "\x1b[7m> prod-") || !strings.Contains(view, "\x1b[1mp\x1b[0m") {
			t.Errorf("colour %v: nothing stands out:\n%q", colour, view)
		}
		s.styles = tui.NewStyles(false, true)
		if diff := cmp.Diff(s.View(), ansi.Strip(view)); diff != "" {
			t.Errorf("-plain +styled\n%s", diff)
		}
	}
}

// BenchmarkKey is one letter of a query over 500 roles, and the screen after it.
func BenchmarkKey(b *testing.B) {
	var roles []Role
	for i := range 500 {
		roles = append(roles, Role{Name: fmt.Sprintf("team-%03d-production-administrator", i), Account: fmt.Sprintf("%012d", i), Description: strings.Repeat("reads the ledger of production ", 4)})
	}
	m := newModel(Config{Roles: roles})
	for b.Loop() {
		m.Update(tuitest.Key("p"))
		_ = m.View()
		m.Update(tuitest.Key("backspace"))
	}
}
