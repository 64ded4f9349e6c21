package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sega/audit/recording"
	"sega/audit/recording/export"
)

const (
	seekStep    = 10 * time.Second
	defaultIdle = 2 * time.Second
	slowest     = 1.0 / 8
	fastest     = 512.0
	maxMarks    = 10_000 // places to jump to, of each kind: more come of who wants memory
)

// sane undoes what a recording may have done to the terminal, all that --raw lets through included:
// it goes back to UTF-8, leaves the alternate screen (1047: 1049 would move the cursor back too, onto
// what was shown last), shows the cursor in its own shape, and resets colours, character sets, scroll
// region, wrapping, tab stops, and the modes of keyboard, mouse, focus and paste. Resetting scroll
// region and origin mode moves the cursor home: it is put back (CSI s, CSI u), as it is where a
// terminal takes kitty's CSI < u for that. A soft reset (CSI ! p) forgets what was saved, and comes first.
const sane = "\x1b%G\x1b[?1047l\x1b[!p\x1b[s\x1b[r\x1b[?6l\x1b[<u\x1b[u\x1b[?7h\x1b[4l\x1b[2l\x1b[20l\x1b[?5l\x1b[?25h\x1b[0 q\x1b[>4;0m\x1b[0m\x1b(B\x0f\x1b[?5W" +
	"\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?2004l\x1b[?2026l\x1b[?2048l\x1b[?1l\x1b>"

// empty is a sane screen with nothing on it.
const empty = sane + "\x1b[H\x1b[2J"

// moment is a place to jump to.
type moment struct {
	at    time.Duration
	label string
}

// score is what the first reading of a recording finds: how long it is and where one can jump to.
type score struct {
	channels   []export.Channel
	marks      []moment
	total      time.Duration
	cols, rows uint32 // the largest size of the terminal
}

// player replays a recording for a person at a terminal. It shows its own line only while it is
// paused: on the last row, after which the recorded screen is made anew from the start, so that
// nothing of that line stays.
type player struct {
	open    func() (*recording.Reader, error) // from the start
	out     io.Writer
	size    func() (cols, rows int)
	score   score
	channel *uint32 // nil for all
	raw     bool    // no filter
	speed   float64
	idle    bool // pauses are skipped
	maxIdle time.Duration

	reader *recording.Reader
	screen io.Writer
	filter *export.Harmless // what screen is, or nil where it is raw
	next   *recording.Frame // read and not shown yet; nil at the end
	ended  error            // why there is no next: nil or recording.ErrInterrupted
	at     time.Duration    // in the recording
	since  time.Time        // when at was true
	paused bool

	notice string
	prompt *[]rune // what is typed behind "/"; nil while nothing is
	hits   found
	hit    int
}

// errQuit ends a player.
var errQuit = errors.New("quit")

// start shows the recording at a moment.
func (p *player) start(ctx context.Context, at time.Duration) error {
	if p.maxIdle <= 0 {
		p.maxIdle = defaultIdle
	}
	return p.seek(ctx, at)
}

// run plays until somebody quits, the keys end or ctx does. That its cause is errQuit is quitting, too:
// the keyboard says so at once, whatever the player is at.
func (p *player) run(ctx context.Context, keys <-chan key) error {
	if err := p.play(ctx, keys); !errors.Is(err, errQuit) {
		return err
	}
	return nil
}

func (p *player) play(ctx context.Context, keys <-chan key) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if p.moving() {
			timer.Reset(p.wait())
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case k, ok := <-keys:
			if !ok {
				return errQuit
			}
			p.settle()
			if err := p.key(ctx, k); err != nil {
				return err
			}
		case <-timer.C:
			if err := p.advance(ctx); err != nil {
				return err
			}
		}
	}
}

func (p *player) moving() bool { return !p.paused && p.next != nil }

// wait is how long the next frame is away.
func (p *player) wait() time.Duration {
	p.since = time.Now()
	return time.Duration(float64(p.gap()) / p.speed)
}

// gap is the same by the recording's clock, with pauses skipped.
func (p *player) gap() time.Duration {
	gap := max(p.next.Offset-p.at, 0)
	if p.idle {
		gap = min(gap, p.maxIdle)
	}
	return gap
}

// settle moves the place on by the time that has passed since.
func (p *player) settle() {
	if !p.moving() {
		return
	}
	passed := time.Duration(float64(time.Since(p.since)) * p.speed)
	if p.idle { // what is left of a pause that is skipped counts from its end
		p.at = max(p.at, p.next.Offset-p.gap())
	}
	p.at = min(p.at+passed, p.next.Offset)
}

// advance shows the frames that are due now. At the end it stops.
func (p *player) advance(ctx context.Context) error {
	if p.next == nil {
		return nil
	}
	p.at = max(p.at, p.next.Offset)
	if err := p.show(ctx, p.at); err != nil {
		return err
	}
	if p.next == nil {
		p.paused = true
		return p.status()
	}
	return nil
}

// seek makes the screen anew as it was at a moment. Forward it goes on from where it is, unless the
// player's own line is on the screen.
func (p *player) seek(ctx context.Context, to time.Duration) error {
	to = min(max(to, 0), p.score.total)
	if p.reader == nil || to < p.at || p.paused {
		if err := p.rewind(); err != nil {
			return err
		}
	}
	p.at = to
	if err := p.show(ctx, to); err != nil {
		return err
	}
	if p.next == nil {
		p.paused = true
	}
	if p.paused {
		return p.status()
	}
	return nil
}

func (p *player) rewind() error {
	r, err := p.open()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(p.out, empty); err != nil {
		return err
	}
	p.reader, p.screen, p.at = r, p.out, 0
	if !p.raw {
		p.filter = export.NewHarmless(p.out)
		p.screen = p.filter
	}
	return p.read()
}

// read fetches the next frame of the channel that shows something.
func (p *player) read() error {
	for {
		f, err := p.reader.Next()
		if err == io.EOF || errors.Is(err, recording.ErrInterrupted) {
			if p.next, p.ended = nil, nil; err != io.EOF {
				p.ended = err
			}
			return nil
		}
		if err != nil {
			return err
		}
		if f.Stream != recording.StreamIn && (p.channel == nil || *p.channel == f.Channel) {
			p.next = &f
			return nil
		}
	}
}

// show writes every frame up to a moment, or as many as ctx lets it.
func (p *player) show(ctx context.Context, to time.Duration) error {
	for p.next != nil && p.next.Offset <= to {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.write(*p.next); err != nil {
			return err
		}
		if err := p.read(); err != nil {
			return err
		}
	}
	return nil
}

// write shows one frame. The terminal is raw, so the line ends of a channel that had none are ours to make.
func (p *player) write(f recording.Frame) error {
	if f.Stream == recording.StreamEvent {
		return p.note(f)
	}
	data := f.Data
	if !p.score.pty(f.Channel) {
		data = bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
	}
	_, err := p.screen.Write(data)
	return err
}

// note tells the filter of an event.
func (p *player) note(f recording.Frame) error {
	if p.filter == nil {
		return nil
	}
	e, err := f.Event()
	if err != nil {
		return err
	}
	p.filter.Note(e)
	return nil
}

func (s score) pty(channel uint32) bool {
	c, err := export.Find(s.channels, channel)
	return err == nil && c.Pty
}

// readScore reads a recording once. The marks are those of one channel, or of all.
func readScore(ctx context.Context, open func() (*recording.Reader, error), channel *uint32) (score, error) {
	var s score
	r, err := open()
	if err != nil {
		return s, err
	}
	if s.channels, err = export.Channels(r); err != nil {
		return s, err
	}
	if r, err = open(); err != nil {
		return s, err
	}
	for {
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
		f, err := r.Next()
		if err == io.EOF || errors.Is(err, recording.ErrInterrupted) {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		s.total = max(s.total, f.Offset)
		if f.Stream == recording.StreamEvent && (channel == nil || *channel == f.Channel) {
			if err := s.note(f); err != nil {
				return s, err
			}
		}
	}
}

func (s *score) note(f recording.Frame) error {
	e, err := f.Event()
	if err != nil {
		return err
	}
	label := export.Marker(e)
	if e.Type == recording.EventPty || e.Type == recording.EventResize {
		s.cols, s.rows = max(s.cols, e.Cols), max(s.rows, e.Rows)
	}
	if e.Type == recording.EventResize {
		label = fmt.Sprintf("resize %dx%d", e.Cols, e.Rows)
	}
	if label != "" && len(s.marks) < maxMarks {
		s.marks = append(s.marks, moment{f.Offset, label})
	}
	return nil
}
