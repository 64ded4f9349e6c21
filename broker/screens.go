package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
)

const (
	searchWait     = 10 * time.Second // for an indexer's answer
	searchSessions = 10_000           // that one text may have been shown in
	searchQueue    = 16               // questions that wait for one indexer
	searchTerms    = 4                // screen: in one query
	searchTurns    = 4                // queries that ask at once, which is what an indexer works on at once
	searchPerson   = 3                // of those that ask or wait, of one person

	searchRate  = 2 // a second and person
	searchBurst = 30
)

// screens knows the indexers that hold a stream, and what they are asked.
type screens struct {
	wait  time.Duration
	turns chan struct{} // taken by who asks

	mu       sync.Mutex
	people   map[string]int    // queries that ask or wait for a turn
	indexers map[string]*asked // by machine ID; a newer stream takes the place of an older
	open     map[string]*question
}

// asked is the stream of one indexer.
type asked struct {
	questions chan api.IndexSearch
	replaced  chan struct{} // closed by a newer stream of the machine
}

// question waits for answers.
type question struct {
	of      map[string]bool // machine IDs that were asked and have not answered
	answers chan api.IndexHits
}

func newScreens() *screens {
	return &screens{wait: searchWait, turns: make(chan struct{}, searchTurns), people: map[string]int{}, indexers: map[string]*asked{}, open: map[string]*question{}}
}

func (x *screens) connected() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.indexers)
}

func (x *screens) join(machine string) *asked {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old := x.indexers[machine]; old != nil {
		close(old.replaced)
	}
	a := &asked{questions: make(chan api.IndexSearch, searchQueue), replaced: make(chan struct{})}
	x.indexers[machine] = a
	return a
}

func (x *screens) leave(machine string, a *asked) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.indexers[machine] == a {
		delete(x.indexers, machine)
	}
}

// turn waits until a person may ask. done must be called. Nobody takes all the turns: what he has under
// way beyond his share is refused, and the others' stay in the order in which they came.
func (x *screens) turn(ctx context.Context, person string) (done func(), err error) {
	x.mu.Lock()
	n := x.people[person]
	if n < searchPerson {
		x.people[person]++
	}
	x.mu.Unlock()
	if n >= searchPerson {
		return nil, api.Errorf(api.KindRateLimited, "you have %d searches of screens under way", n).WithHint("wait for their answers and repeat")
	}
	leave := func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.people[person]--; x.people[person] == 0 {
			delete(x.people, person)
		}
	}
	timer := time.NewTimer(x.wait)
	defer timer.Stop()
	select {
	case x.turns <- struct{}{}:
		return func() { <-x.turns; leave() }, nil
	case <-timer.C:
		err = api.Errorf(api.KindUnavailable, "other searches of screens have kept the indexer busy for %s", x.wait).WithHint("repeat in a while, or leave screen: out of the query")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	leave()
	return nil, err
}

// ask puts a question to every indexer. done must be called.
func (x *screens) ask(search api.IndexSearch) (q *question, done func(), err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.indexers) == 0 {
		return nil, nil, api.Errorf(api.KindUnavailable, "no indexer is connected, so what screens showed cannot be searched").
			WithHint("start the indexer (segad indexer) or look at its log; without screen: the query works")
	}
	q = &question{of: map[string]bool{}, answers: make(chan api.IndexHits, len(x.indexers))}
	for machine, a := range x.indexers {
		select {
		case a.questions <- search:
			q.of[machine] = true
		default:
		}
	}
	if len(q.of) == 0 {
		return nil, nil, api.Errorf(api.KindRateLimited, "the indexer has %d searches to do", searchQueue).WithHint("wait a few seconds and repeat")
	}
	x.open[search.ID] = q
	return q, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.open, search.ID)
	}, nil
}

// answer takes an indexer's answer to a question that it was asked. Any other is dropped: nobody waits.
func (x *screens) answer(machine string, hits api.IndexHits) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if q := x.open[hits.ID]; q != nil && q.of[machine] {
		delete(q.of, machine)
		q.answers <- hits
	}
}

// waiting returns how many indexers have not answered.
func (x *screens) waiting(q *question) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(q.of)
}

// resolved is a query in which the sessions that showed a text stand in its place.
type resolved struct {
	where  query.Expr
	shown  []recordingOf // the sessions
	notice string        // what the indexer does not cover
}

// resolveScreens replaces what screens showed by the sessions that showed it and that the asker may
// replay: the answer to a search tells what is on them (R11).
func (s *Server) resolveScreens(ctx context.Context, c *call, x query.Expr) (resolved, error) {
	if query.NegatesScreen(x) {
		return resolved{}, api.Errorf(api.KindInvalid, "screen: cannot be negated: a session that no indexer has seen would count as one that did not show it").
			WithHint("ask for what was shown, and leave the rest out by user:, host: or kind:")
	}
	texts := query.Screens(x)
	if err := s.maySearch(c, texts); err != nil {
		return resolved{}, err
	}
	done, err := s.screens.turn(ctx, c.session.Issuer+"\x00"+c.session.Subject)
	if err != nil {
		return resolved{}, err
	}
	defer done()
	found := map[string][]string{}
	var r resolved
	lacks, err := s.liveScreens(ctx)
	if err != nil {
		return resolved{}, err
	}
	for _, text := range texts {
		hits, err := s.searchScreens(ctx, text)
		if err != nil {
			return resolved{}, err
		}
		kept, err := s.replayable(ctx, c, hits.Sessions)
		if err != nil {
			return resolved{}, err
		}
		lacks.missing, lacks.cut = max(lacks.missing, hits.Missing), max(lacks.cut, hits.Cut)
		r.shown, found[text] = append(r.shown, kept...), []string{}
		for _, of := range kept {
			found[text] = append(found[text], of.then.ID)
		}
	}
	r.notice = lacks.String()
	r.where = query.Replace(x, func(x query.Expr) query.Expr {
		if screen, ok := x.(query.Screen); ok {
			return query.Sessions{IDs: found[screen.Value]}
		}
		return x
	})
	return r, nil
}

// unsearched are sessions whose screens an answer knows nothing of.
type unsearched struct {
	live    int // they have not ended: recordings are indexed whole
	missing int // the index has nothing of them,
	cut     int // or a part
}

// liveScreens counts the sessions that are live before an indexer is asked.
func (s *Server) liveScreens(ctx context.Context) (u unsearched, err error) {
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		live, err := state.LiveSSH(ctx, tx, "", "", s.Now())
		u.live = len(live)
		return err
	})
	return u, unavailable(err)
}

// String is a sentence for whoever asked, "" where everything was searched.
func (u unsearched) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		text string
	}{{u.live, "%d that are live"}, {u.missing, "%d that the index lacks"}, {u.cut, "%d of which it has a part"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf(p.text, p.n))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "not all screens were searched, of sessions these: " + strings.Join(parts, ", ") + " (segad indexer --status lists what its index lacks)"
}

// maySearch bounds what one person asks of the indexers.
func (s *Server) maySearch(c *call, texts []string) error {
	if len(texts) > searchTerms {
		return api.Errorf(api.KindInvalid, "a query has %d screen: at most, and this one has %d", searchTerms, len(texts)).WithHint("search for one after the other")
	}
	for _, text := range texts {
		if err := checkScreen(text); err != nil {
			return err
		}
	}
	return s.limits.take("searches of screens by this person", c.session.Issuer+"\x00"+c.session.Subject, searchRate, searchBurst)
}

// searchScreens asks the indexers which sessions showed a text. The first answer that covers every
// session that has ended by now is the answer: each indexer holds all that its identity opens.
func (s *Server) searchScreens(ctx context.Context, text string) (api.IndexHits, error) {
	upTo, err := s.lastEnd(ctx)
	if err != nil {
		return api.IndexHits{}, unavailable(err)
	}
	q, done, err := s.screens.ask(api.IndexSearch{ID: api.NewID("isr_"), Text: text, Limit: searchSessions, UpTo: upTo})
	if err != nil {
		return api.IndexHits{}, err
	}
	defer done()
	return s.await(ctx, q, upTo)
}

// checkScreen refuses what an index cannot find.
func checkScreen(text string) error {
	switch {
	case utf8.RuneCountInString(text) < api.MinScreen:
		return api.Errorf(api.KindInvalid, "screens are searched for %d characters at least", api.MinScreen)
	case len(text) > api.MaxScreen:
		return api.Errorf(api.KindInvalid, "screens are searched for %d bytes at most", api.MaxScreen)
	case strings.ContainsFunc(text, unicode.IsControl):
		return api.Errorf(api.KindInvalid, "screens are searched line by line: leave control characters out of the text")
	}
	return nil
}

// lastEnd returns the index of the last session.end, -1 without one.
func (s *Server) lastEnd(ctx context.Context) (int64, error) {
	for row, err := range s.Log.Search(ctx, query.Query{Where: ofKind(audit.KindSessionEnd), After: -1, Newest: true, Limit: 1}) {
		return row.Index, err
	}
	return -1, nil
}

// await collects answers until one is good.
func (s *Server) await(ctx context.Context, q *question, upTo int64) (api.IndexHits, error) {
	timer := time.NewTimer(s.screens.wait)
	defer timer.Stop()
	problem := api.Errorf(api.KindUnavailable, "the indexer has not answered within %s", s.screens.wait).
		WithHint("look at the indexer's log, or leave screen: out of the query")
	for s.screens.waiting(q) > 0 || len(q.answers) > 0 {
		select {
		case hits := <-q.answers:
			hits, err := judgeHits(hits, upTo)
			if err == nil || api.IsKind(err, api.KindInvalid) {
				return hits, err
			}
			problem = asProblem(err)
		case <-timer.C:
			return api.IndexHits{}, problem
		case <-ctx.Done():
			return api.IndexHits{}, context.Cause(ctx)
		case <-s.stop:
			return api.IndexHits{}, api.Errorf(api.KindUnavailable, "the broker stops")
		}
	}
	return api.IndexHits{}, problem
}

// judgeHits says whether an answer is one.
func judgeHits(hits api.IndexHits, upTo int64) (api.IndexHits, error) {
	switch {
	case hits.Error != "":
		return api.IndexHits{}, api.Errorf(api.KindUnavailable, "the indexer could not search: %s", printable(hits.Error, 200)).WithHint("look at the indexer's log")
	case hits.UpTo < upTo:
		return api.IndexHits{}, api.Errorf(api.KindUnavailable, "the index is behind: it holds sessions up to event %d, and the last one ended with event %d", hits.UpTo, upTo).
			WithHint("repeat in a while, or leave screen: out of the query")
	case hits.More || len(hits.Sessions) > searchSessions:
		return api.IndexHits{}, api.Errorf(api.KindInvalid, "more than %d sessions showed this text", searchSessions).WithHint("look for a longer text")
	}
	ids := slices.Clone(hits.Sessions)
	slices.Sort(ids)
	hits.Sessions = slices.Compact(ids)
	return hits, nil
}

// replayable keeps the sessions that the asker may replay. Where a reason or a fresh login is all
// that is missing, he is told so instead: nothing that he may see is left out without a word.
func (s *Server) replayable(ctx context.Context, c *call, ids []string) (kept []recordingOf, err error) {
	var all []recordingOf
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		for _, id := range ids {
			of, err := s.readRecordingOf(ctx, tx, id)
			if err != nil {
				return err
			}
			if of.known && of.then.ID == id { // an ID that was changed to be printed is none of ours
				all = append(all, of)
			}
		}
		return nil
	})
	if err != nil {
		return nil, unavailable(err)
	}
	for _, of := range all {
		d, problem := s.decided(s.replaying(c, of))
		if problem != nil && d.Allow {
			if problem.Kind != api.KindStepUp {
				problem = problem.WithHint("a search cannot give it: leave screen: out of the query, and play the recordings")
			}
			return nil, problem
		}
		if problem == nil {
			kept = append(kept, of)
		}
	}
	return kept, nil
}

// replaying is what it takes to learn that a recording showed a text.
func (s *Server) replaying(c *call, of recordingOf) operation {
	op := s.onRecording(c, policy.ActionReplay, of, policy.Context{})
	op.name = "the recordings that showed it"
	return op
}

// indexSearches streams questions to an indexer, with a heartbeat a second, for as long as its
// session stands.
func (s *Server) indexSearches(ctx context.Context, c *call) (any, error) {
	return stream(func(w http.ResponseWriter) {
		a := s.screens.join(c.session.Subject)
		defer s.screens.leave(c.session.Subject, a)
		s.stamp(w)
		w.Header().Set("Content-Type", "application/x-ndjson")
		if err := s.sendSearches(ctx, c, a, w); err != nil {
			s.Logger.Info("searches ended", "indexer", c.session.Email, "request", c.id, "reason", err)
		}
	}), nil
}

func (s *Server) sendSearches(ctx context.Context, c *call, a *asked, w http.ResponseWriter) error {
	control := http.NewResponseController(w)
	encoder := json.NewEncoder(unhurried(w))
	tick := time.NewTicker(s.Times.Heartbeat)
	defer tick.Stop()
	search := api.IndexSearch{}               // the first line is a heartbeat: the stream stands
	stands := s.standing(c, authIndexer, nil) // no recording is named yet: policy decides at each that it fetches, and at each hit
	for {
		if err := stands.check(ctx); err != nil {
			return err
		}
		if err := errors.Join(encoder.Encode(search), control.Flush()); err != nil {
			return err
		}
		select {
		case search = <-a.questions:
		case <-tick.C:
			search = api.IndexSearch{}
		case <-a.replaced:
			return errors.New("the machine has opened another stream")
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stop:
			return nil
		}
	}
}

// indexHits takes an indexer's answer. It is part of somebody's search, which is the event.
func (s *Server) indexHits(_ context.Context, c *call) (any, error) {
	var hits api.IndexHits
	if err := decode(c, &hits); err != nil {
		return nil, err
	}
	s.screens.answer(c.session.Subject, hits)
	return api.Empty{}, nil
}
