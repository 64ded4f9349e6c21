package bastion

import (
	"bytes"
	"sync"
)

// notice says something on the session's terminals while it goes on: only where a program runs under a
// terminal, so that no line of ours gets into data, and not over a full screen, which it would spoil.
// Nobody waits for it: a terminal that takes nothing gets it late or never.
func (s *session) notice(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.terminals {
		if !c.screen.full() {
			c.wg.Go(func() { _, _ = personErrors{c}.Write([]byte("\r\nsega: " + text + "\r\n")) })
		}
	}
}

// personErrors is the person's standard error, to which notices and the program write at once: x/crypto has
// one buffer for all that is written to it.
type personErrors struct{ c *channel }

// Write implements io.Writer.
func (e personErrors) Write(p []byte) (int, error) {
	e.c.errors.Lock()
	defer e.c.errors.Unlock()
	return e.c.client.Stderr().Write(p)
}

// showsNotices makes a channel one on which notices are said, until the end of what it returns.
func (s *session) showsNotices(c *channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminals == nil {
		s.terminals = map[*channel]struct{}{}
	}
	s.terminals[c] = struct{}{}
}

// noMoreNotices comes before the channel's end is waited for.
func (s *session) noMoreNotices(c *channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.terminals, c)
}

// fullScreen follows a terminal's output for the sequences that switch to the alternate screen and
// back (xterm's modes 47, 1047 and 1049): editors, pagers, top.
type fullScreen struct {
	mu   sync.Mutex
	tail []byte // of what came last, where a sequence may have been cut in two
	on   bool
}

var screenModes = [][]byte{[]byte("\x1b[?1049"), []byte("\x1b[?1047"), []byte("\x1b[?47")}

func (f *fullScreen) full() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.on
}

// see takes output in.
func (f *fullScreen) see(p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	const keep = len("\x1b[?1049h") - 1
	f.scan(append(f.tail, p[:min(len(p), keep)]...))
	f.scan(p)
	if len(p) < keep {
		p = append(f.tail, p...)
	}
	f.tail = append([]byte(nil), p[max(0, len(p)-keep):]...)
}

// scan looks at each switch in p; the last one holds.
func (f *fullScreen) scan(p []byte) {
	for {
		i := bytes.Index(p, []byte("\x1b[?"))
		if i < 0 {
			return
		}
		p = p[i:]
		for _, mode := range screenModes {
			if rest, ok := bytes.CutPrefix(p, mode); ok && len(rest) > 0 && (rest[0] == 'h' || rest[0] == 'l') {
				f.on = rest[0] == 'h'
			}
		}
		p = p[1:]
	}
}
