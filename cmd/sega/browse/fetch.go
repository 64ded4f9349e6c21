package browse

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"sega/audit/query"
	"sega/broker/api"
	"sega/cmd/sega/tui"
)

const (
	pageRows = 200
	nearEnd  = 50 // rows from an end of the window at which the next page is loaded
)

// question is what is asked of the broker.
type question struct {
	key     string // equal for equal questions, however they are written
	text    string // canonical, its times absolute: all pages of a list answer the same
	intents bool
}

// epoch is the time that keys of questions are made with, so that since:7d equals itself later on.
var epoch = time.Unix(1<<31, 0)

// questionOf reads a query's text. Errors are a *query.SyntaxError.
func (m *model) questionOf(text string) (question, error) {
	now := m.Now()
	x, err := query.Parse(text, now)
	if err != nil {
		return question{}, err
	}
	fixed, err := query.Parse(text, epoch.In(now.Location()))
	if err != nil {
		return question{}, err
	}
	return question{key: query.Format(fixed) + "\x00" + strconv.FormatBool(m.intents), text: query.Format(x), intents: m.intents}, nil
}

// follow asks for the query as it stands, unless that is what was asked last. A text that cannot be
// read keeps the list.
func (m *model) follow() tea.Cmd {
	q, err := m.questionOf(m.query.String())
	if err != nil {
		var at *query.SyntaxError
		errors.As(err, &at)
		m.syntax = tui.Clean(at.What)
		return nil
	}
	m.syntax = ""
	if q.key == m.asked.key {
		return nil
	}
	m.asked = q
	return m.ask(fresh)
}

// way is which part of a list is asked for.
type way int

const (
	fresh   way = iota // the newest, anew
	older              // below the window
	newer              // above the window, where it was dropped
	refresh            // the newest, above the window's newest
)

// page is the broker's answer, newest first.
type page struct {
	request int
	way     way
	rows    []row
	note    string // what it may lack
	err     error
}

// ask sends a request; one that is under way is cancelled.
func (m *model) ask(w way) tea.Cmd {
	m.cancel()
	m.request++
	m.failed = ""
	ctx, stop := context.WithCancel(m.ctx)
	m.stop = stop
	request, params := m.request, m.params(w)
	return func() tea.Msg {
		defer stop()
		if !m.fetches.begin() {
			return nil
		}
		defer m.fetches.Done()
		rows, note, err := collect(ctx, m.Source, params)
		if w == newer {
			slices.Reverse(rows)
		}
		return page{request, w, rows, note, err}
	}
}

// fetches are the requests under way. Bubbletea runs them and does not wait for them.
type fetches struct {
	sync.WaitGroup
	mu     sync.Mutex
	closed bool
}

func (f *fetches) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.Add(1)
	}
	return !f.closed
}

// end lets nothing begin any more, and waits for what has.
func (f *fetches) end() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.Wait()
}

func (m *model) cancel() {
	if m.stop != nil {
		m.stop()
		m.stop = nil
	}
}

func (m *model) params(w way) url.Values {
	q := url.Values{api.ParamLimit: {strconv.Itoa(pageRows)}}
	if w != newer {
		q.Set(api.ParamNewest, "1")
	}
	if m.asked.text != "" {
		q.Set(api.ParamQuery, m.asked.text)
	}
	if m.asked.intents {
		q.Set(api.ParamIntents, "1")
	}
	if n := len(m.list.rows); n > 0 {
		switch w {
		case older:
			q.Set(api.ParamBefore, itoa(m.list.rows[n-1].index))
		case newer, refresh:
			q.Set(api.ParamAfter, itoa(m.list.rows[0].index))
		}
	}
	return q
}

// collect reads a page. One that breaks off is none: a list never silently lacks a part.
func collect(ctx context.Context, s Source, params url.Values) (rows []row, note string, err error) {
	ctx = api.WithNotices(ctx, func(text string) { note = text })
	for e, err := range s.Events(ctx, params) {
		if err != nil {
			return nil, "", err
		}
		if rows = append(rows, newRow(e)); len(rows) == pageRows {
			break
		}
	}
	return rows, note, nil
}

// more loads the next page where the cursor nears an end of what is in memory.
func (m *model) more() tea.Cmd {
	switch {
	case m.stop != nil || m.failed != "": // under way, or for a key to try again
		return nil
	case m.list.older && m.list.cursor >= len(m.list.rows)-nearEnd && len(m.list.rows) > 0 && m.list.rows[len(m.list.rows)-1].index > 0:
		return m.ask(older)
	case m.list.newer && m.list.cursor < nearEnd:
		return m.ask(newer)
	}
	return nil
}

// refresh asks for what is new. Nothing asks for it by itself: every read is an event.
func (m *model) refresh() tea.Cmd {
	q, err := m.questionOf(m.query.String())
	switch {
	case err != nil:
		return m.follow()
	case q.key != m.asked.key || m.list.newer || len(m.list.rows) == 0 || m.failed != "":
		m.asked = q
		return m.ask(fresh)
	}
	return m.ask(refresh)
}

// arrive takes an answer.
func (m *model) arrive(p page) {
	if p.request != m.request {
		return
	}
	m.stop = nil
	if p.err != nil {
		m.failed = m.explain(p.err)
		return
	}
	m.loaded = m.Now()
	full := len(p.rows) == pageRows
	switch p.way {
	case older:
		m.list.appendOlder(p.rows, full)
	case newer:
		m.list.prependNewer(p.rows, full)
	case refresh:
		if m.notice = strconv.Itoa(len(p.rows)) + " new"; full { // there may be a gap below them
			m.list.replace(p.rows, true)
		} else {
			m.list.prependNewer(p.rows, false)
		}
	default:
		m.list.replace(p.rows, full)
	}
	if p.note != "" {
		m.notice = tui.Clean(p.note)
	}
}

// explain is an error on one line.
func (m *model) explain(err error) string {
	var parts []string
	for line := range strings.Lines(m.Explain(err)) {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, tui.Clean(line))
		}
	}
	return strings.Join(parts, "; ")
}
