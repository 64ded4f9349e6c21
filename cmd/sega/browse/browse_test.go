package browse

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	tea "github.com/charmbracelet/bubbletea"

	"sega/audit"
	"sega/broker/api"
	"sega/cmd/sega/tui/tuitest"
)

// TestTypingRests: however fast somebody types, one request follows, when typing has rested; and
// none for a question that is the same.
func TestTypingRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := show(t, usual(), 80, 24, "")
		if n := len(s.log.requests()); n != 1 {
			t.Fatalf("%d requests to begin with", n)
		}
		messages := make(chan tea.Msg, 100)
		typed := time.Now()
		for _, r := range "user:bob@example.com" {
			_, cmd := s.Update(tuitest.Key(string(r)))
			go func() { messages <- cmd() }()
			time.Sleep(100 * time.Millisecond)
			typed = time.Now()
		}
		last := typed.Add(-100 * time.Millisecond)
		for range len("user:bob@example.com") {
			msg := <-messages
			before := len(s.log.requests())
			_, cmd := s.Update(msg)
			s.settle(cmd)
			if len(s.log.requests()) > before && time.Since(last) != rest {
				t.Errorf("asked %v after the last key", time.Since(last))
			}
		}
		got := s.log.requests()
		if len(got) != 2 || got[1].Get(api.ParamQuery) != "user:bob@example.com" || got[1].Get(api.ParamNewest) != "1" || got[1].Get(api.ParamLimit) != "200" {
			t.Fatalf("asked %v", got)
		}
		if diff := cmp.Diff([]int64{7, 6}, s.indexes()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		for _, text := range []string{" ", "  and", " disk"} { // typed, and taken back before a rest
			s.typing(text)
			var cmd tea.Cmd
			for range text {
				cmd = s.update(tuitest.Key("backspace"))
			}
			s.settle(cmd)
		}
		s.write("  ")
		if n := len(s.log.requests()); n != 2 {
			t.Errorf("%d requests for one question: %v", n, s.log.requests())
		}
	})
}

// TestSinceIsAskedOnce: a relative time is the same question a minute later, and all pages of a
// list begin at the same moment.
func TestSinceIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := show(t, many(450), 80, 24, "since:7d")
		s.Now = func() time.Time { return began.Add(2 * time.Hour) }
		s.write(" ")
		s.press("esc", "end", "end")
		asked := s.log.requests()
		if len(asked) != 3 {
			t.Fatalf("%d requests", len(asked))
		}
		for _, q := range asked {
			if q.Get(api.ParamQuery) != "since:2026-01-24T09:00:00Z" {
				t.Errorf("asked %q", q.Get(api.ParamQuery))
			}
		}
	})
}

// TestOlderRequest: a request for an older text is cancelled when the next one begins, and its
// answer, should it come, is dropped.
func TestOlderRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := show(t, usual(), 80, 24, "")
		s.log.hold = make(chan struct{})
		_, first := s.Update(s.typing("user:bob@example.com")())
		answers := make(chan tea.Msg, 2)
		go func() { answers <- first() }()
		synctest.Wait()
		s.has("asking the broker")
		_, second := s.Update(s.typing(" outcome:denied")())
		late := <-answers
		if s.log.ended != 1 {
			t.Error("the first request goes on")
		}
		s.Update(late)
		if len(s.list.rows) != 8 || s.failed != "" {
			t.Errorf("%d rows, %q", len(s.list.rows), s.failed)
		}
		close(s.log.hold)
		s.settle(second)
		if diff := cmp.Diff([]int64{6}, s.indexes()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		s.Update(page{request: s.request - 1, rows: []row{{index: 99}}})
		if diff := cmp.Diff([]int64{6}, s.indexes()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// TestSyntax: what cannot be read keeps the list and is explained below the query, after a rest.
func TestSyntax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := show(t, usual(), 120, 24, "")
		rested := s.typing(`outcome:bogus`)
		if strings.Contains(s.View(), "an outcome is") {
			t.Error("it complains while somebody types")
		}
		s.settle(rested)
		s.has("an outcome is intent, success")
		if len(s.list.rows) != 8 || len(s.log.requests()) != 1 {
			t.Errorf("%d rows, %d requests", len(s.list.rows), len(s.log.requests()))
		}
		s.press("ctrl+w")
		if s.syntax != "" {
			t.Errorf("it still complains: %s", s.syntax)
		}
		s.write("\"\x1b[31m\u202e")
		s.has("this quote is not closed")
		s.press("enter")
		if s.at != onQuery {
			t.Error("Enter left a query that cannot be read")
		}
	})
}

// TestPages walks through a log that does not fit: every event stands in the list once and in
// order, the list stays bounded, and the way up brings back what was dropped.
func TestPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 11_111
		s := show(t, many(n), 80, 24, "")
		s.press("esc")
		whole := func() {
			t.Helper()
			rows := s.list.rows
			if len(rows) > rowsLimit {
				t.Fatalf("%d rows in memory", len(rows))
			}
			size := 0
			for i, r := range rows {
				size += r.size()
				if i > 0 && r.index != rows[i-1].index-1 {
					t.Fatalf("after %d comes %d", rows[i-1].index, r.index)
				}
			}
			if size != s.list.bytes {
				t.Fatalf("%d bytes counted, %d in memory", s.list.bytes, size)
			}
		}
		for chosen := int64(-1); s.list.rows[s.list.cursor].index != chosen; {
			chosen = s.list.rows[s.list.cursor].index
			s.press("pgdown")
			whole()
		}
		if s.list.rows[s.list.cursor].index != 0 || !s.list.newer || s.list.older {
			t.Fatalf("ends at %d", s.list.rows[s.list.cursor].index)
		}
		for chosen := int64(-1); s.list.rows[s.list.cursor].index != chosen; {
			chosen = s.list.rows[s.list.cursor].index
			s.press("pgup")
			whole()
		}
		if s.list.rows[s.list.cursor].index != n-1 || s.list.newer {
			t.Fatalf("begins at %d", s.list.rows[s.list.cursor].index)
		}
		s.press("down", "up")
		before := len(s.log.requests())
		if time.Sleep(24 * time.Hour); len(s.log.requests()) != before {
			t.Error("it asks by itself")
		}
	})
}

// TestHome: where the top has been dropped, the way there is one request and not one a page.
func TestHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := show(t, many(7000), 80, 24, "")
		s.press("esc")
		for !s.list.newer {
			s.press("end")
		}
		before := len(s.log.requests())
		s.press("home")
		if got := len(s.log.requests()) - before; got != 1 || s.list.cursor != 0 || s.list.rows[0].index != 6999 {
			t.Errorf("%d requests to row %d, event %d", got, s.list.cursor, s.list.rows[0].index)
		}
	})
}

// TestRefresh: new events appear above; the cursor stays at the top if it is there, else on its event.
func TestRefresh(t *testing.T) {
	for name, c := range map[string]struct {
		keys []string
		add  int
		want int64 // the chosen event
		rows int
	}{
		"at the top":         {nil, 3, 11, 11},
		"below":              {[]string{"down", "down"}, 3, 6, 11},
		"nothing new":        {[]string{"down"}, 0, 7, 8},
		"more than a page":   {[]string{"down"}, 300, 307, 200},
		"a page exactly":     {nil, 200, 208, 200},
		"a page less by one": {[]string{"down"}, 199, 7, 207},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := show(t, usual(), 80, 24, "")
				s.press("esc")
				s.press(c.keys...)
				for range c.add {
					s.log.add(audit.Event{Kind: audit.KindSSHCert})
				}
				s.press("F")
				if got := s.list.rows[s.list.cursor].index; got != c.want && name != "more than a page" || len(s.list.rows) != c.rows {
					t.Errorf("event %d of %d rows, want %d of %d", got, len(s.list.rows), c.want, c.rows)
				}
				s.has("as of 09:00:00", strconv.Itoa(min(c.add, 200))+" new")
			})
		})
	}
}

// TestJump goes to what an event shares with others, and back without asking again.
func TestJump(t *testing.T) {
	for key, want := range map[string]struct {
		query string
		rows  []int64
	}{
		"s": {"session:ssh_one", []int64{5, 4, 3}}, "l": {"session:ses_alice", []int64{5, 4, 3, 2, 0}}, "u": {"user:alice@example.com", []int64{5, 4, 3, 2, 0}},
		"h": {"host:web-1", []int64{5, 4, 3}},
	} {
		t.Run(key, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := show(t, usual(), 80, 24, "")
				s.press("esc", "down", "down", "down", "down", "enter", key)
				if diff := cmp.Diff(want.rows, s.indexes()); diff != "" || s.query.String() != want.query {
					t.Errorf("%s: -want +got\n%s", s.query.String(), diff)
				}
				before := len(s.log.requests())
				s.press("backspace")
				if s.at != onDetail || s.detail.row.index != 4 || len(s.list.rows) != 8 || s.query.String() != "" || len(s.log.requests()) != before {
					t.Errorf("back at %v, event %d, %d rows, %q, %d requests more", s.at, s.detail.row.index, len(s.list.rows), s.query.String(), len(s.log.requests())-before)
				}
			})
		})
	}
}

// TestJumpAction shows both rows of an action, and says where a key leads nowhere.
func TestJumpAction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := show(t, usual(), 80, 24, "user:alice@example.com role:prod-admin")
		s.press("esc", "a")
		if diff := cmp.Diff([]int64{2, 1}, s.indexes()); diff != "" || !s.intents {
			t.Errorf("-want +got\n%s", diff)
		}
		s.has("+intents", "intent")
		s.press("h")
		s.has("this event is about no host")
		s.press("i")
		if diff := cmp.Diff([]int64{2}, s.indexes()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		s.press("esc")
		if s.intents || s.query.String() != "user:alice@example.com role:prod-admin" {
			t.Errorf("back at %q, %v", s.query.String(), s.intents)
		}
	})
}

// TestHistory: far back, lists are gone and asked for again; at its end Esc leaves.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := show(t, usual(), 80, 24, "outcome:success")
		s.press("esc", "down")
		for range historyLimit {
			s.press("u", "s")
		}
		if len(s.history) != historyLimit {
			t.Fatalf("%d steps back", len(s.history))
		}
		kept := 0
		for _, v := range s.history {
			if v.kept != (len(v.list.rows) > 0) {
				t.Error("a list that was let go is still there")
			}
			if v.kept {
				kept++
			}
		}
		if kept != keptLimit {
			t.Errorf("%d lists are kept", kept)
		}
		for i := range historyLimit {
			s.press("esc")
			if len(s.list.rows) == 0 || s.left {
				t.Fatalf("nothing after %d steps back", i)
			}
		}
		if s.press("esc"); !s.left {
			t.Error("it does not leave")
		}
	})
}

// TestErrors: what fails is said with what to do, keeps the list, and is tried again at a key alone.
func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := show(t, many(300), 80, 24, "")
		s.log.fail = errDown
		s.press("esc", "end", "end", "up", "down", "end")
		s.has("the broker does not answer; run: sega login")
		if n := len(s.log.requests()); n != 2 || len(s.list.rows) != 200 {
			t.Errorf("%d requests, %d rows", n, len(s.list.rows))
		}
		s.log.fail = nil
		s.press("F")
		if s.failed != "" || s.list.cursor != 0 {
			t.Errorf("failed %q, at %d", s.failed, s.list.cursor)
		}
		s.log.fail = api.Errorf(api.KindDenied, "you may not read the log\x1b[2J")
		s.press("/")
		s.write("x")
		s.has(`you may not read the log\u001b[2J`)
	})
}

// TestLeave: q and Esc leave the list, Ctrl-C leaves from anywhere; in the query q is a letter.
func TestLeave(t *testing.T) {
	for keys, want := range map[string]bool{"q": false, "esc": false, "esc q": true, "esc esc": true, "ctrl+c": true, "enter q": false, "enter q q": true, "enter ctrl+c": true, "f1 q": false, "f1 ctrl+c": true,
		"esc backspace": false, "enter esc esc": true, "esc down p ctrl+c": true, "esc down p q": false} {
		t.Run(keys, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := show(t, usual(), 80, 24, "")
				if s.press(strings.Fields(keys)...); s.left != want {
					t.Errorf("left: %v", s.left)
				}
			})
		})
	}
}

// TestNamesOfKeys: letters that arrive at once, as over a slow connection, are letters.
func TestNamesOfKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := show(t, usual(), 80, 24, "")
		for _, text := range []string{"tab", "enter", "esc", "end", "q", "ctrl+c", "backspace"} {
			s.settle(s.update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text)}))
		}
		s.settle(s.update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("[a]\nb\x1bc"), Paste: true}))
		if got := s.query.String(); got != "tabenterescendqctrl+cbackspace[a] bc" || s.left || s.at != onQuery {
			t.Errorf("typed %q, left %v", got, s.left)
		}
		s.press("ctrl+u", "esc")
		s.settle(s.update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("jjj")}))
		if s.list.cursor != 3 {
			t.Errorf("jjj goes to %d", s.list.cursor)
		}
		s.settle(s.update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("q"), Paste: true}))
		if s.left {
			t.Error("what was pasted left the browser")
		}
	})
}

func (s *screen) update(msg tea.Msg) tea.Cmd {
	_, cmd := s.Update(msg)
	return cmd
}
