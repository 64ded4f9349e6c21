package browse

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/exp/golden"
	"github.com/google/go-cmp/cmp"

	tea "github.com/charmbracelet/bubbletea"

	"sega/audit"
	"sega/broker/api"
	"sega/cmd/sega/tui"
	"sega/cmd/sega/tui/tuitest"
)

// TestGolden holds what the screen looks like. Update with go test -update, and look at it.
func TestGolden(t *testing.T) {
	for name, c := range map[string]struct {
		width, height int
		query         string
		keys          []string
	}{
		"list 80x24":     {80, 24, "", []string{"esc", "down"}},
		"list 120x40":    {120, 40, "since:7d", nil},
		"list 60x15":     {60, 15, "", []string{"esc"}},
		"detail 80x24":   {80, 24, "", []string{"down", "down", "down", "down", "enter"}},
		"detail 120x40":  {120, 40, "outcome:denied", []string{"enter"}},
		"split 200x50":   {200, 50, "", []string{"down", "down", "down", "down", "enter"}},
		"help 80x24":     {80, 24, "", []string{"f1"}},
		"reason 80x24":   {80, 24, "", []string{"esc", "down", "p", "I", "N", "C", "-", "7"}},
		"nothing 80x24":  {80, 24, "user:nobody@example.com", nil},
		"suggests 80x24": {80, 24, "outcome:denied k", nil},
		"syntax 80x24":   {80, 24, "outcome:denied (kind:aws.*", nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := show(t, usual(), c.width, c.height, c.query)
				s.press(c.keys...)
				fits(t, s)
				var b strings.Builder
				for l := range strings.SplitSeq(s.View(), "\n") {
					b.WriteString(strings.TrimRight(l, " ") + "\n")
				}
				golden.RequireEqual(t, []byte(b.String()))
			})
		})
	}
}

func hostileLog() *fakeLog {
	l := &fakeLog{}
	for _, text := range tuitest.Hostile() {
		details, err := json.Marshal(map[string]any{"type": "exec", "command": text, text: text})
		if err != nil {
			panic(err)
		}
		l.add(audit.Event{Kind: audit.KindSessionCommand, Actor: audit.Actor{Kind: audit.ActorUser, Iss: text, Sub: text, Email: text}, LoginID: text, SessionID: "ssh_" + text, Resource: audit.ResourceHost + text,
			Reason: text, Ticket: text, Source: text, Node: text, Action: text, PolicyIDs: []string{text}, RequestID: text, Details: details})
		l.add(audit.Event{Kind: audit.KindSessionCommand, Actor: audit.Actor{Kind: audit.ActorUser}, Resource: text, Details: details})
	}
	return l
}

// fits fails the test unless the screen is as tuitest.Fits wants it.
func fits(t *testing.T, s *screen) {
	t.Helper()
	tuitest.Fits(t, s.View(), s.width, s.height)
}

// TestFits shows every part of the browser on screens of all sizes, with hostile words in all places.
func TestFits(t *testing.T) {
	sizes := [][2]int{{1, 1}, {5, 3}, {20, 7}, {33, 8}, {60, 15}, {80, 24}, {140, 24}, {200, 50}}
	parts := map[string][]string{"query": nil, "list": {"esc"}, "detail": {"enter"}, "end of the detail": {"enter", "end"}, "help": {"f1"}, "end of the help": {"f1", "pgdown", "pgdown", "pgdown"},
		"reason": {"esc", "p", "日", "e", "\u0301"}, "reason from the detail": {"enter", "p", "x"}, "session": {"esc", "s"}, "user": {"esc", "u"}, "host": {"esc", "h", "/"}, "action": {"esc", "a", "/", "ctrl+a"}, "intents": {"esc", "i"}}
	for name, keys := range parts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for i := 1; i < 2*len(tuitest.Hostile()); i += 2 { // those with the words in all fields
					s := show(t, hostileLog(), 80, 24, "")
					for range i {
						s.press("down")
					}
					s.press(keys...)
					for _, size := range sizes {
						s.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
						fits(t, s)
					}
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		l := hostileLog()
		s := show(t, l, 80, 24, strings.Join(tuitest.Hostile()[:6], " "))
		l.fail = fmt.Errorf("%s", strings.Join(tuitest.Hostile(), " "))
		s.press("ctrl+u")
		s.write("a")
		for _, size := range sizes {
			s.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			fits(t, s)
		}
	})
}

// TestUnreadable: an event that this program cannot read hides no other, and is shown as what it is.
func TestUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := show(t, usual(), 100, 24, "")
		s.Update(page{request: s.request, rows: []row{newRow(api.Event{Index: 9, Envelope: json.RawMessage(`{"v":2,"new":"\u001b[2J"}`)}), newRow(answer(s.log.events, nil)[0])}})
		s.has("unreadable", "user.login")
		s.press("enter")
		s.has("event 9", "unreadable")
		fits(t, s)
		s.press("p", "s", "u")
		if len(s.history) != 0 || s.at != onDetail {
			t.Error("it leads somewhere")
		}
	})
}

// TestUnplayable: where no recording opens, no reason is asked for, which would be in vain.
func TestUnplayable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := show(t, usual(), 100, 24, "kind:session.start")
		var ready error
		s.Playable = func() error { return ready }
		for range 2 {
			ready = errors.New("there is no identity")
			s.press("esc", "p")
			if s.at != onList {
				t.Fatal("a reason is asked for")
			}
			s.has("there is no identity")
			ready = nil
			s.press("p")
			if s.at != onReason {
				t.Error("no reason is asked for")
			}
		}
	})
}

// TestLongDetails: details of any length take bounded memory, and it is said where they are.
func TestLongDetails(t *testing.T) {
	long, err := json.Marshal(map[string]string{"command": strings.Repeat("x", detailsLimit)})
	if err != nil {
		t.Fatal(err)
	}
	l := &fakeLog{}
	l.add(audit.Event{Kind: audit.KindSessionCommand, Details: long})
	s := show(t, l, 80, 24, "")
	if s.list.bytes > 2000 {
		t.Errorf("%d bytes are kept", s.list.bytes)
	}
	s.press("enter")
	s.has("262158 bytes, too long for here", "sega audit query")
}

// TestStyles: without colour nothing is coloured, and the chosen row still stands out.
func TestStyles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, colour := range []bool{true, false} {
			s := show(t, usual(), 80, 24, "")
			s.styles = tui.NewStyles(colour, false)
			s.press("esc")
			view := s.View()
			if got := strings.Contains(view, "\x1b[31m"); got != colour {
				t.Errorf("colour %v: red is there: %v", colour, got)
			}
			if !strings.Contains(view, "\x1b[7m> ") {
				t.Errorf("colour %v: the chosen row does not stand out:\n%q", colour, view)
			}
			s.styles = tui.NewStyles(false, true)
			if diff := cmp.Diff(s.View(), ansi.Strip(view)); diff != "" {
				t.Errorf("-plain +styled\n%s", diff)
			}
		}
	})
}
