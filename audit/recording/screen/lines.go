package screen

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"strings"
	"time"

	"sega/audit/recording"
)

// maxChannels bounds the screens that are kept at once. What comes on more is read as plain lines,
// of which the channel used longest ago is closed first.
const maxChannels = 32

// Line is a line of text that a session showed.
type Line struct {
	Offset  time.Duration // from the recording's start: when the line was complete on the screen
	Channel uint32
	Text    string // UTF-8, not empty, at most 16 KiB, without control characters but tabs
}

// Lines yields the text of a recording, in the order in which lines became final; where a program
// leaves a line standing while others pass, that is not the order of offsets. An error is the last
// thing yielded, after every line before it: recording.ErrInterrupted where the recording has no
// end, ErrWork where drawing it costs too much, the cause of ctx when that ends, else what Reader.Next
// returns. Memory is bounded, whatever was recorded, and so is the work for each byte of it.
func Lines(ctx context.Context, r *recording.Reader) iter.Seq2[Line, error] {
	return lines(ctx, r.Next, math.MaxInt64)
}

// LinesWithin is Lines with a bound on the whole work, in units of about two nanoseconds.
func LinesWithin(ctx context.Context, r *recording.Reader, most int64) iter.Seq2[Line, error] {
	return lines(ctx, r.Next, most)
}

func lines(ctx context.Context, next func() (recording.Frame, error), most int64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		s := &session{open: map[uint32]*channel{}, hidden: map[uint32]bool{}, work: newWork(most)}
		s.yield = func(l Line) {
			if !s.stopped {
				s.stopped = !yield(l, nil)
			}
		}
		for !s.stopped {
			if err := s.step(ctx, next); err != nil {
				s.end()
				if !s.stopped && !errors.Is(err, io.EOF) {
					yield(Line{}, err)
				}
				return
			}
		}
	}
}

// step takes the next frame.
func (s *session) step(ctx context.Context, next func() (recording.Frame, error)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f, err := next()
	if err == nil {
		err = s.frame(f)
	}
	if err == nil && s.work.over() {
		err = ErrWork
	}
	return err
}

// session reads the frames of a recording.
type session struct {
	open    map[uint32]*channel
	hidden  map[uint32]bool // channels of forwards that are open
	work    *work
	used    int // counts frames
	yield   func(Line)
	stopped bool
}

// channel is one channel's reader: a terminal, or two plain streams.
type channel struct {
	number   uint32
	used     int
	terminal *terminal
	plain    [2]*plain // output, error output
	parsers  [2]*parser
	mute     bool // files are transferred
}

func (s *session) frame(f recording.Frame) error {
	if f.Stream == recording.StreamIn {
		return nil
	}
	s.work.bring(len(f.Data))
	if f.Stream != recording.StreamEvent {
		if !s.hidden[f.Channel] {
			s.channel(f.Channel).write(f)
		}
		return nil
	}
	e, err := f.Event()
	if err != nil {
		return err
	}
	switch {
	case e.IsForward():
		s.hidden[f.Channel] = true
	case s.hidden[f.Channel] && (e.Type == recording.EventClose || e.Type == recording.EventRefuse):
		delete(s.hidden, f.Channel)
	case !s.hidden[f.Channel]:
		s.event(s.channel(f.Channel), e, f.Offset)
	}
	return nil
}

// channel returns the reader of a channel, made where there is none.
func (s *session) channel(number uint32) *channel {
	s.used++
	c := s.open[number]
	if c == nil {
		if len(s.open) >= maxChannels {
			s.drop(s.oldest())
		}
		c = &channel{number: number}
		for i := range c.plain {
			c.plain[i] = &plain{yield: s.of(number)}
			c.parsers[i] = newParser(c.plain[i])
		}
		s.open[number] = c
	}
	c.used = s.used
	return c
}

// of yields lines as a channel's.
func (s *session) of(number uint32) func(Line) {
	return func(l Line) {
		l.Channel = number
		s.yield(l)
	}
}

func (s *session) oldest() *channel {
	var oldest *channel
	for _, c := range s.open {
		if oldest == nil || c.used < oldest.used {
			oldest = c
		}
	}
	return oldest
}

func (s *session) drop(c *channel) {
	c.end()
	delete(s.open, c.number)
}

func (s *session) event(c *channel, e recording.Event, at time.Duration) {
	switch e.Type {
	case recording.EventPty:
		c.end()
		c.terminal = newTerminal(int(min(e.Cols, maxCols)), int(min(e.Rows, maxRows)), s.work, s.of(c.number))
		c.terminal.now = at
		c.parsers[0] = newParser(c.terminal)
		c.parsers[0].titles = strings.HasPrefix(e.Term, "screen") || strings.HasPrefix(e.Term, "tmux")
	case recording.EventResize:
		if c.terminal != nil {
			c.terminal.now = at
			c.terminal.seen.turn()
			c.terminal.resize(int(min(e.Cols, maxCols)), int(min(e.Rows, maxRows)))
		}
	case recording.EventSubsystem:
		c.mute = e.Name == "sftp"
	case recording.EventClose:
		s.drop(c)
	}
}

// write takes a frame of output. A terminal shows both streams.
func (c *channel) write(f recording.Frame) {
	if c.mute {
		return
	}
	if c.terminal != nil {
		c.terminal.now = f.Offset
		c.terminal.seen.turn()
		c.parsers[0].write(f.Data)
		return
	}
	i := 0
	if f.Stream == recording.StreamErr {
		i = 1
	}
	c.plain[i].now = f.Offset
	c.parsers[i].write(f.Data)
}

// end gives out what is left.
func (c *channel) end() {
	for i, p := range c.parsers {
		p.end()
		c.plain[i].flush()
	}
	if c.terminal != nil {
		c.terminal.end()
	}
}

// end ends every channel, in the order of their numbers.
func (s *session) end() {
	for len(s.open) > 0 {
		var first *channel
		for _, c := range s.open {
			if first == nil || c.number < first.number {
				first = c
			}
		}
		s.drop(first)
	}
}
