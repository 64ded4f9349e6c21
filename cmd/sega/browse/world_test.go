package browse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"sega/audit"
	"sega/audit/query"
	"sega/broker/api"
	"sega/cmd/sega/tui"
	"sega/cmd/sega/tui/tuitest"
)

var began = time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)

// fakeLog answers as the broker does.
type fakeLog struct {
	mu     sync.Mutex
	events []audit.Event
	asked  []url.Values
	fail   error
	hold   chan struct{} // where set, answers wait for it or for the end of the request
	held   chan struct{} // where set, told of each that waits
	ended  int           // requests that were cancelled while they waited
}

func (l *fakeLog) add(e audit.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.V, e.ID = 1, fmt.Sprintf("0194b0c0-0000-7000-8000-%012d", len(l.events))
	if e.Time.IsZero() {
		e.Time = began.Add(time.Duration(len(l.events)) * time.Second)
	}
	if e.Outcome == "" {
		e.Outcome = audit.Success
	}
	if e.Actor.Kind == "" {
		e.Actor.Kind = audit.ActorUser
	}
	if e.PolicyIDs == nil {
		e.PolicyIDs = []string{}
	}
	l.events = append(l.events, e)
}

func (l *fakeLog) requests() []url.Values {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asked)
}

func (l *fakeLog) Events(ctx context.Context, q url.Values) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		l.mu.Lock()
		l.asked = append(l.asked, q)
		hold, held, fail, events := l.hold, l.held, l.fail, slices.Clone(l.events)
		l.mu.Unlock()
		if hold != nil {
			if held != nil {
				held <- struct{}{}
			}
			select {
			case <-hold:
			case <-ctx.Done():
				l.mu.Lock()
				l.ended++
				l.mu.Unlock()
				yield(api.Event{}, ctx.Err())
				return
			}
		}
		if fail != nil {
			yield(api.Event{}, fail)
			return
		}
		for _, e := range answer(events, q) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// answer is what the broker would send.
func answer(events []audit.Event, q url.Values) []api.Event {
	number := func(name string, otherwise int64) int64 {
		if q.Get(name) == "" {
			return otherwise
		}
		n, err := strconv.ParseInt(q.Get(name), 10, 64)
		if err != nil {
			panic(err)
		}
		return n
	}
	x, err := query.Parse(q.Get(api.ParamQuery), began)
	if err != nil {
		panic(err)
	}
	ask := query.Query{Where: x, Intents: q.Get(api.ParamIntents) == "1", After: number(api.ParamAfter, -1), Before: number(api.ParamBefore, 0)}
	var found []int
	for i, e := range events {
		if ask.Match(int64(i), e) {
			found = append(found, i)
		}
	}
	if q.Get(api.ParamNewest) == "1" {
		slices.Reverse(found)
	}
	var out []api.Event
	for _, i := range found[:min(int64(len(found)), number(api.ParamLimit, int64(len(found))))] {
		envelope, err := json.Marshal(events[i])
		if err != nil {
			panic(err)
		}
		out = append(out, api.Event{Index: int64(i), Envelope: envelope, Details: events[i].Details})
	}
	return out
}

// alice's morning: what a list usually has.
func usual() *fakeLog {
	l := &fakeLog{}
	alice := audit.Actor{Kind: audit.ActorUser, Iss: "https://idp.example.com", Sub: "00ualice", Email: "alice@example.com"}
	bob := audit.Actor{Kind: audit.ActorUser, Iss: "https://idp.example.com", Sub: "00ubob", Email: "bob@example.com"}
	l.add(audit.Event{Kind: audit.KindUserLogin, Actor: alice, LoginID: "ses_alice", Resource: "session/ses_alice", Source: "192.0.2.1"})
	l.add(audit.Event{Kind: audit.KindAWSAssume, Actor: alice, LoginID: "ses_alice", Action: "act_1", Resource: "role/prod-admin", Outcome: audit.Intent, Reason: "INC-7 disk full"})
	l.add(audit.Event{Kind: audit.KindAWSAssume, Actor: alice, LoginID: "ses_alice", Action: "act_1", Resource: "role/prod-admin", Reason: "INC-7 disk full", PolicyIDs: []string{"prod", "mfa"}})
	l.add(audit.Event{Kind: audit.KindSessionStart, Actor: alice, LoginID: "ses_alice", SessionID: "ssh_one", Resource: "host/web-1", Reason: "INC-7 disk full", Details: json.RawMessage(`{"host":"web-1","login":"root"}`)})
	l.add(audit.Event{Kind: audit.KindSessionCommand, Actor: alice, LoginID: "ses_alice", SessionID: "ssh_one", Resource: "host/web-1", Details: json.RawMessage(`{"type":"exec","command":"du -sh /var/*\nrm -rf /var/cache/old"}`)})
	l.add(audit.Event{Kind: audit.KindSessionEnd, Actor: alice, LoginID: "ses_alice", SessionID: "ssh_one", Resource: "host/web-1", Reason: "closed by the person"})
	l.add(audit.Event{Kind: audit.KindAWSAssume, Actor: bob, LoginID: "ses_bob", Action: "act_2", Resource: "role/prod-admin", Outcome: audit.Denied, Reason: "only looking", PolicyIDs: []string{"prod"}})
	l.add(audit.Event{Kind: audit.KindSessionEnd, Actor: bob, LoginID: "ses_bob", SessionID: "ssh_two", Resource: "host/db-1", Outcome: audit.Revoked, Reason: "laptop stolen"})
	l.add(audit.Event{Kind: audit.KindPolicyReload, Actor: audit.Actor{Kind: audit.ActorSystem}, Resource: "policy/set", Outcome: audit.Failure, Reason: "line 3: no such role"})
	return l
}

// many is a log of n events.
func many(n int) *fakeLog {
	l := &fakeLog{}
	for i := range n {
		l.add(audit.Event{Kind: audit.KindSSHCert, Actor: audit.Actor{Email: "alice@example.com"}, Reason: "number " + strconv.Itoa(i)})
	}
	return l
}

// screen drives a model without a terminal.
type screen struct {
	*model
	t       *testing.T
	log     *fakeLog
	left    bool // it wants to leave
	replays [][2]string
}

// show opens a browser of a size; its first page has arrived.
func show(t *testing.T, l *fakeLog, width, height int, text string) *screen {
	t.Helper()
	s := &screen{t: t, log: l}
	s.model = newModel(t.Context(), Config{Source: l, Query: text, Now: func() time.Time { return began.Add(time.Hour) }, Colour: true,
		Play: func(_ context.Context, id, reason string) error {
			s.replays = append(s.replays, [2]string{id, reason})
			return nil
		},
		Explain: func(err error) string { return err.Error() + "\n  run: sega login" }})
	s.styles = tui.NewStyles(false, true)
	s.Update(tea.WindowSizeMsg{Width: width, Height: height})
	s.settle(s.Init())
	return s
}

// settle runs a command and all that follow from it.
func (s *screen) settle(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case nil:
	case tea.BatchMsg:
		for _, c := range msg {
			s.settle(c)
		}
	case tea.QuitMsg:
		s.left = true
	default:
		_, next := s.Update(msg)
		s.settle(next)
	}
}

// press presses keys, each when what followed from the one before has come to rest.
func (s *screen) press(keys ...string) {
	for _, k := range keys {
		_, cmd := s.Update(tuitest.Key(k))
		s.settle(cmd)
	}
}

// typing types a text rune by rune, without a rest, and returns what the last one started.
func (s *screen) typing(text string) tea.Cmd {
	var cmd tea.Cmd
	for _, r := range text {
		_, cmd = s.Update(tuitest.Key(string(r)))
	}
	return cmd
}

// write types a text and rests.
func (s *screen) write(text string) { s.settle(s.typing(text)) }

func (s *screen) indexes() []int64 {
	var out []int64
	for _, r := range s.list.rows {
		out = append(out, r.index)
	}
	return out
}

// has fails the test unless the screen shows every text.
func (s *screen) has(texts ...string) {
	s.t.Helper()
	view := s.View()
	for _, text := range texts {
		if !strings.Contains(view, text) {
			s.t.Errorf("no %q in\n%s", text, view)
		}
	}
}

var errDown = errors.New("the broker does not answer")
