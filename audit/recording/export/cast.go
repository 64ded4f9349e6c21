package export

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sega/audit/recording"
)

// Size of a terminal where the recording has none.
const (
	defaultCols = 80
	defaultRows = 24
	maxSize     = 1<<16 - 1 // readers parse sizes as 16 bits
)

// CastOptions say what an asciicast holds.
type CastOptions struct {
	Version int     // 2 or 3
	Channel Channel // of Channels
	Title   string
	Input   bool // also what was typed, where the reader's identity opens it
	// Unfiltered leaves in the output what makes a terminal act: a player on one hands all of it on.
	Unfiltered bool
}

// castHeader is the first line: Width and Height in version 2, Term in version 3.
type castHeader struct {
	Version   int               `json:"version"`
	Width     uint32            `json:"width,omitempty"`
	Height    uint32            `json:"height,omitempty"`
	Term      *castTerm         `json:"term,omitempty"`
	Timestamp int64             `json:"timestamp"` // Unix seconds
	Command   string            `json:"command,omitempty"`
	Title     string            `json:"title,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
}

type castTerm struct {
	Cols uint32 `json:"cols"`
	Rows uint32 `json:"rows"`
	Type string `json:"type,omitempty"`
}

// Cast writes a channel as an asciicast. Standard error is folded into the output, for which the
// format has one code. The output of a channel without a terminal gets the carriage returns that
// the person's own terminal added. What is no UTF-8 becomes U+FFFD, and sequences that do not show but act are left out (Harmless):
// the bytes are in Raw alone.
func Cast(w io.Writer, r *recording.Reader, o CastOptions) error {
	if o.Version != 2 && o.Version != 3 {
		return fmt.Errorf("export: there is no asciicast version %d: it is 2 or 3", o.Version)
	}
	c := &cast{out: bufio.NewWriterSize(w, 64<<10), o: o, texts: map[recording.Stream]*decoder{
		recording.StreamIn: {}, recording.StreamOut: {}, recording.StreamErr: {}}}
	if !o.Unfiltered { // one for each stream: a sequence of one is cut by the other's output
		c.filters = map[recording.Stream]*Harmless{recording.StreamOut: NewHarmless(&c.shown), recording.StreamErr: NewHarmless(&c.shown)}
	}
	if err := c.line(c.header(r.Header())); err != nil {
		return err
	}
	var broken error
	for f, err := range ofChannel(r, o.Channel.ID) {
		if broken = err; err == nil {
			broken = c.frame(f)
		}
		if broken != nil {
			break
		}
	}
	if err := c.finish(); err != nil {
		return err
	}
	return broken
}

// cast is the state of one encoding. Times are since the channel was opened.
type cast struct {
	out     *bufio.Writer
	o       CastOptions
	texts   map[recording.Stream]*decoder
	filters map[recording.Stream]*Harmless // nil where all is left in
	shown   bytes.Buffer                   // what they let pass
	last    time.Duration                  // of the newest frame
	ticks   int64                          // version 3: milliseconds written so far
	status  string                         // of the exit; "" for none
}

func (c *cast) header(h recording.Header) castHeader {
	ch := c.o.Channel
	cols, rows := size(ch.Cols, ch.Rows)
	out := castHeader{Version: c.o.Version, Timestamp: h.Started.Add(ch.Opened).Unix(), Title: label(c.o.Title), Command: label(ch.Command)}
	if ch.Type == recording.EventSubsystem {
		out.Command = ""
	}
	if c.o.Version == 3 {
		out.Term = &castTerm{Cols: cols, Rows: rows, Type: label(ch.Term)}
		return out
	}
	out.Width, out.Height = cols, rows
	if term := label(ch.Term); term != "" {
		out.Env = map[string]string{"TERM": term}
	}
	return out
}

// size is one that readers take: players read 0 as unknown and refuse more than 16 bits.
func size(cols, rows uint32) (uint32, uint32) {
	if cols == 0 || rows == 0 {
		return defaultCols, defaultRows
	}
	return min(cols, maxSize), min(rows, maxSize)
}

func (c *cast) frame(f recording.Frame) error {
	c.last = max(c.last, f.Offset-c.o.Channel.Opened)
	switch f.Stream {
	case recording.StreamEvent:
		e, err := f.Event()
		if err != nil {
			return err
		}
		return c.event(e)
	case recording.StreamIn:
		if !c.o.Input {
			return nil
		}
		return c.write("i", c.texts[f.Stream].add(f.Data))
	}
	return c.output(f.Stream, c.texts[f.Stream].add(f.Data))
}

func (c *cast) output(s recording.Stream, text string) error {
	if filter := c.filters[s]; filter != nil {
		c.shown.Reset()
		if _, err := io.WriteString(filter, text); err != nil {
			return err
		}
		text = c.shown.String()
	}
	if !c.o.Channel.Pty {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	return c.write("o", text)
}

func (c *cast) event(e recording.Event) error {
	for _, filter := range c.filters {
		filter.Note(e)
	}
	switch e.Type {
	case recording.EventResize:
		cols, rows := size(e.Cols, e.Rows)
		return c.write("r", fmt.Sprintf("%dx%d", cols, rows))
	case recording.EventExit:
		c.status = strconv.FormatInt(int64(int32(e.Status)), 10) // readers parse 32 bits with a sign
		if c.o.Version == 3 {
			return nil // its own last line
		}
	}
	if text := Marker(e); text != "" {
		return c.write("m", text)
	}
	return nil
}

// finish writes what is held and, in version 3, how the channel's program ended.
func (c *cast) finish() error {
	for _, s := range []recording.Stream{recording.StreamOut, recording.StreamErr} {
		if err := c.output(s, c.texts[s].rest()); err != nil {
			return err
		}
	}
	if err := c.write("i", c.texts[recording.StreamIn].rest()); err != nil {
		return err
	}
	if c.o.Version == 3 {
		if err := c.write("x", c.status); err != nil {
			return err
		}
	}
	return c.out.Flush()
}

// write adds an event at the time of the newest frame, unless it says nothing.
func (c *cast) write(code, data string) error {
	if data == "" {
		return nil
	}
	return c.line([]any{json.RawMessage(c.time()), code, data})
}

// time is that of the newest frame: since the start in version 2, by microseconds; since the line
// before in version 3, by milliseconds. There what rounding took from one line comes with the next.
func (c *cast) time() string {
	if c.o.Version == 3 {
		now := c.last.Round(time.Millisecond).Milliseconds()
		interval := now - c.ticks
		c.ticks = now
		return fmt.Sprintf("%d.%03d", interval/1000, interval%1000)
	}
	µs := c.last.Round(time.Microsecond).Microseconds()
	text := strings.TrimRight(fmt.Sprintf("%d.%06d", µs/1e6, µs%1e6), "0")
	if strings.HasSuffix(text, ".") {
		text += "0"
	}
	return text
}

// line writes one line of JSON.
func (c *cast) line(v any) error {
	e := json.NewEncoder(c.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Marker names an event as a place to jump to, or "" for one that is none. Control characters of
// what a client sent are left out of it.
func Marker(e recording.Event) string {
	switch e.Type {
	case recording.EventShell:
		return "shell"
	case recording.EventExec:
		return label("exec " + e.Command)
	case recording.EventSubsystem:
		return label("subsystem " + e.Name)
	case recording.EventSignal:
		return label("signal " + e.Signal)
	case recording.EventExit:
		return fmt.Sprintf("exit %d", e.Status)
	case recording.EventExitSignal:
		return label("exit-signal " + e.Signal)
	case recording.EventRefuse:
		return label("refused " + e.Reason)
	}
	return ""
}

// label is text that every reader shows as it is: no control characters, and of one line.
func label(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || r == 0x2028 || r == 0x2029 || unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, s))
}
