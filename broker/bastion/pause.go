package bastion

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"sega/audit"
	"sega/broker/api"
)

const (
	kindPause  = "session.pause"
	kindResume = "session.resume"
)

// halts are what keeps a session's I/O from going on. Only the session's own bytes and programs wait:
// keepalives are answered, window changes are not, and an end of the session ends the waiting.
type halts struct {
	mu    sync.Mutex
	by    map[string]*halt // by what has failed
	clear chan struct{}    // closed when by becomes empty; nil while it is
}

type halt struct {
	since time.Time
	end   *time.Timer
}

// add notes a failure, and reports whether it is a new one.
func (h *halts) add(on string, n *halt) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by[on] != nil {
		return false
	}
	if len(h.by) == 0 {
		h.by, h.clear = map[string]*halt{}, make(chan struct{})
	}
	h.by[on] = n
	return true
}

// remove takes a failure back, and returns it where it was there.
func (h *halts) remove(on string) *halt {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.by[on]
	if n == nil {
		return nil
	}
	delete(h.by, on)
	if len(h.by) == 0 {
		close(h.clear)
		h.clear = nil
	}
	return n
}

// list names what has failed.
func (h *halts) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.by))
}

// wait returns true when nothing is halted, and false where ctx ends first.
func (h *halts) wait(ctx context.Context) bool {
	for {
		h.mu.Lock()
		clear := h.clear
		h.mu.Unlock()
		if clear == nil {
			return true
		}
		select {
		case <-clear:
		case <-ctx.Done():
			return false
		}
	}
}

// stop ends the clocks of what is halted still.
func (h *halts) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.by {
		n.end.Stop()
	}
}

type pauseDetail struct {
	On      string  `json:"on"`
	Seconds float64 `json:"seconds,omitempty"`
	Paused  float64 `json:"paused,omitempty"`
}

// pause stops the session's I/O for as long as something has failed, at most for limit: then the
// session ends. From its return on nothing more is recorded and forwarded than was on its way. What it
// returns is to be reported.
func (s *session) pause(on string, limit time.Duration) []api.Report {
	n := &halt{since: time.Now()}
	n.end = time.AfterFunc(limit, func() { s.cut(pausedTooLong(on, limit)) })
	if s.ctx.Err() != nil || !s.halts.add(on, n) {
		n.end.Stop()
		return nil
	}
	s.b.cfg.Log.Warn("session paused", "session", s.hop.SessionID, "on", on, "limit", limit)
	s.notice("paused: " + failures[on].text + "; the session goes on when that is mended, and ends in " + limit.String() + " if it is not")
	return s.behindStart(s.report(kindPause, audit.Success, failures[on].text, pauseDetail{On: on, Seconds: limit.Seconds()}))
}

// resume lets the session go on where nothing else has failed. What it returns is to be reported.
func (s *session) resume(on string) []api.Report {
	n := s.halts.remove(on)
	if n == nil {
		return nil
	}
	n.end.Stop()
	if s.ctx.Err() != nil {
		return nil // its end says enough
	}
	took := time.Since(n.since)
	s.b.cfg.Log.Info("session goes on", "session", s.hop.SessionID, "on", on, "paused", took)
	if len(s.halts.list()) == 0 {
		s.notice("the session goes on")
	}
	return s.behindStart(s.report(kindResume, audit.Success, failures[on].text, pauseDetail{On: on, Paused: took.Seconds()}))
}

// behindStart returns what may be reported now. Before the session's start is in the log that is nothing:
// r follows behind it, and nobody asks for it where the session never starts.
func (s *session) behindStart(r api.Report) []api.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving {
		return []api.Report{r}
	}
	s.early = append(s.early, r)
	return nil
}
