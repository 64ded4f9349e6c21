package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"sega/audit/recording"
	"sega/audit/recording/screen"
)

const playHelp = "q quit  space play  . step  ←→ 10 s  mM marker  / search  nN hit  +- speed  i idle" // what a narrow terminal cuts off is the end

// key does what a key asks for. errQuit ends the player.
func (p *player) key(ctx context.Context, k key) error {
	if p.prompt != nil && k != keyBreak {
		return p.promptKey(ctx, k)
	}
	p.notice = ""
	switch k {
	case 'q', keyBreak:
		return errQuit
	case ' ':
		return p.pause(ctx, !p.paused)
	case '.':
		return p.step(ctx)
	case keyRight, ']':
		return p.seek(ctx, p.at+seekStep)
	case keyLeft, '[':
		return p.seek(ctx, p.at-seekStep)
	case 'm':
		return p.toMark(ctx, 1)
	case 'M':
		return p.toMark(ctx, -1)
	case '+', '=':
		p.speed = min(p.speed*2, fastest)
		p.notice = fmt.Sprintf("speed ×%g", p.speed)
	case '-':
		p.speed = max(p.speed/2, slowest)
		p.notice = fmt.Sprintf("speed ×%g", p.speed)
	case 'i':
		p.idle = !p.idle
		p.notice = map[bool]string{true: "pauses are skipped", false: "pauses are kept"}[p.idle]
	case 'n':
		return p.toHit(ctx, p.hit+1)
	case 'N':
		return p.toHit(ctx, p.hit-1)
	case '/':
		p.prompt = &[]rune{}
		return p.pause(ctx, true)
	}
	return p.status()
}

// pause stops, or goes on with the screen made anew. At the end there is nothing to go on with.
func (p *player) pause(ctx context.Context, stop bool) error {
	if !stop && p.next == nil {
		return p.status()
	}
	if stop {
		p.paused = true
		return p.status()
	}
	if err := p.rebuild(ctx); err != nil {
		return err
	}
	p.paused = false
	return nil
}

// rebuild makes the recorded screen anew, without the player's line.
func (p *player) rebuild(ctx context.Context) error {
	at := p.at
	if err := p.rewind(); err != nil {
		return err
	}
	p.at = at
	return p.show(ctx, at)
}

// step shows the next frame that has bytes, and stops there.
func (p *player) step(ctx context.Context) error {
	p.paused = true
	if p.next == nil {
		return p.status()
	}
	if err := p.rebuild(ctx); err != nil {
		return err
	}
	for p.next != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.at = p.next.Offset
		shown := p.next.Stream != recording.StreamEvent
		if err := p.write(*p.next); err != nil {
			return err
		}
		if err := p.read(); err != nil {
			return err
		}
		if shown {
			break
		}
	}
	return p.status()
}

// toMark jumps to the next marker, or the one before.
func (p *player) toMark(ctx context.Context, direction int) error {
	var to *moment
	for i := range p.score.marks {
		m := &p.score.marks[i]
		if direction > 0 && m.at > p.at && to == nil || direction < 0 && m.at < p.at {
			to = m
		}
	}
	if to == nil {
		p.notice = "no further marker"
		return p.status()
	}
	p.notice = to.label
	return p.seek(ctx, to.at)
}

// toHit jumps to a line that was found and stops there.
func (p *player) toHit(ctx context.Context, n int) error {
	if n < 0 || n >= len(p.hits.lines) {
		p.notice = "no further hit"
		return p.status()
	}
	p.hit = n
	p.notice = fmt.Sprintf("hit %d of %d%s: %s", n+1, len(p.hits.lines), p.hits.more(), strings.TrimSpace(p.hits.lines[n].Text))
	p.paused = true
	return p.seek(ctx, p.hits.lines[n].Offset)
}

// promptKey edits the text to search for.
func (p *player) promptKey(ctx context.Context, k key) error {
	line := *p.prompt
	switch {
	case k == keyEnter:
		p.prompt = nil
		return p.search(ctx, string(line))
	case k == keyEscape:
		p.prompt = nil
	case k == keyDelete && len(line) > 0:
		*p.prompt = line[:len(line)-1]
	case k >= ' ' && k != keyDelete:
		*p.prompt = append(line, rune(k))
	}
	return p.status()
}

// search finds the lines of the screen that hold text, and jumps to the first one behind this moment.
func (p *player) search(ctx context.Context, text string) error {
	if text == "" {
		return p.status()
	}
	hits, err := findText(ctx, p.open, p.channel, text)
	if err != nil {
		return err
	}
	if p.hits = hits; len(hits.lines) == 0 {
		p.notice = fmt.Sprintf("nothing on the screen holds %q%s", text, hits.more())
		return p.status()
	}
	first := 0
	for i, h := range hits.lines {
		if h.Offset > p.at {
			first = i
			break
		}
	}
	return p.toHit(ctx, first)
}

// found is what a search has found.
type found struct {
	lines []screen.Line
	cut   bool // not all was searched, or kept
}

func (f found) more() string {
	if f.cut {
		return " (not all was searched)"
	}
	return ""
}

// findText returns the first rendered lines that hold text, whatever its case. What an interrupted
// recording has is searched, and of one that costs too much to draw the part that does not.
func findText(ctx context.Context, open func() (*recording.Reader, error), channel *uint32, text string) (hits found, err error) {
	r, err := open()
	if err != nil {
		return hits, err
	}
	text = strings.ToLower(text)
	for line, err := range screen.Lines(ctx, r) {
		hits.cut = errors.Is(err, screen.ErrWork) || len(hits.lines) == maxMarks
		if hits.cut || errors.Is(err, recording.ErrInterrupted) {
			break
		}
		if err != nil {
			return hits, err
		}
		if (channel == nil || *channel == line.Channel) && strings.Contains(strings.ToLower(line.Text), text) {
			hits.lines = append(hits.lines, line)
		}
	}
	return hits, nil
}

// status draws the player's line on the last row, while it is paused. A bell says what it cannot.
func (p *player) status() error {
	if !p.paused {
		if p.notice == "" {
			return nil
		}
		_, err := io.WriteString(p.out, "\a")
		return err
	}
	cols, rows := p.size()
	text := p.line()
	if p.prompt != nil {
		text = "/" + string(*p.prompt)
	}
	_, err := fmt.Fprintf(p.out, "\x1b[?6l\x1b[r\x1b[?7l\x1b(B\x0f\x1b[%d;1H\x1b[0;7m %s \x1b[K\x1b[0m", rows, fit(escape(text), cols-2))
	return err
}

func (p *player) line() string {
	state := "paused"
	switch {
	case p.next == nil && p.ended != nil:
		state = "ends here without an end: interrupted, or going on"
	case p.next == nil:
		state = "end"
	}
	idle := ""
	if p.idle {
		idle = "  no pause above " + p.maxIdle.String()
	}
	text := fmt.Sprintf("%s %s/%s ×%g%s  ", state, timecode(p.at), timecode(p.score.total), p.speed, idle)
	if p.notice != "" {
		return text + p.notice
	}
	return text + playHelp
}

// timecode is a moment as 1:02:03.
func timecode(d time.Duration) string {
	s := int(d.Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// fit cuts text to columns, on one line. A character outside of Latin counts for two columns.
func fit(text string, cols int) string {
	text = strings.NewReplacer("\n", " ", "\t", " ").Replace(text)
	for i, r := range text {
		width := 1
		if r > 0x2fff {
			width = 2
		}
		if cols -= width; cols < 0 {
			return text[:i]
		}
	}
	if !utf8.ValidString(text) {
		return strings.ToValidUTF8(text, "?")
	}
	return text
}
