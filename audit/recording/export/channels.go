package export

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"sega/audit/recording"
)

// Channel is what a recording says of one channel. Its strings are as the person's client sent them.
type Channel struct {
	ID         uint32
	Opened     time.Duration // offset of its first frame
	Pty        bool
	Term       string // of the terminal, with its size when it was asked for
	Cols, Rows uint32
	Type       string // what runs on it: recording.EventShell, EventExec or EventSubsystem, or ""
	Command    string // of an exec, or the subsystem's name
	Forward    string // of a forwarded connection: the type of its channel, and where it went
	In         int64  // bytes; 0 where no identity opens what was typed
	Out, Err   int64  // bytes
	Omitted    uint64 // bytes in any direction that were left out of the recording
}

// String describes the channel on one line, for people. It may hold what a client sent.
func (c Channel) String() string {
	parts := []string{fmt.Sprintf("channel %d", c.ID)}
	if c.Pty {
		parts = append(parts, fmt.Sprintf("terminal of %d×%d", c.Cols, c.Rows))
	}
	if c.Forward != "" {
		parts = append(parts, c.Forward)
	}
	if c.Type != "" {
		parts = append(parts, strings.TrimSpace(c.Type+" "+c.Command))
	}
	left := ""
	if c.Omitted > 0 {
		left = fmt.Sprintf(", %d left out", c.Omitted)
	}
	return fmt.Sprintf("%s (%d bytes out, %d err%s)", strings.Join(parts, ", "), c.Out, c.Err, left)
}

// ErrNoChannel means that a recording has no channel, or not the one that was asked for.
var ErrNoChannel = errors.New("export: there is no such channel")

// Channels reads a recording to its end and lists its channels by their first frame. A recording
// without an end is no error here: the encoders say so.
func Channels(r *recording.Reader) ([]Channel, error) {
	var list []Channel
	at := map[uint32]int{}
	for f, err := range frames(r) {
		if errors.Is(err, recording.ErrInterrupted) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		i, known := at[f.Channel]
		if !known {
			i = len(list)
			at[f.Channel], list = i, append(list, Channel{ID: f.Channel, Opened: f.Offset})
		}
		if err := list[i].add(f); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (c *Channel) add(f recording.Frame) error {
	c.Omitted += f.Omitted
	n := int64(len(f.Data))
	switch f.Stream {
	case recording.StreamIn:
		c.In += n
	case recording.StreamOut:
		c.Out += n
	case recording.StreamErr:
		c.Err += n
	case recording.StreamEvent:
		e, err := f.Event()
		if err != nil {
			return err
		}
		c.note(e)
	}
	return nil
}

func (c *Channel) note(e recording.Event) {
	if e.IsForward() {
		c.Forward = strings.TrimSpace(e.Name + " " + e.Value)
	}
	switch e.Type {
	case recording.EventPty:
		c.Pty, c.Term, c.Cols, c.Rows = true, e.Term, e.Cols, e.Rows
	case recording.EventShell:
		c.Type = e.Type
	case recording.EventExec:
		c.Type, c.Command = e.Type, e.Command
	case recording.EventSubsystem:
		c.Type, c.Command = e.Type, e.Name
	}
}

// Choose returns the channel that is meant where nobody says which: the only one with a terminal,
// or else the only one of a program, or the only one. The error names those that there are.
func Choose(list []Channel) (Channel, error) {
	var terminals, programs []Channel
	for _, c := range list {
		if c.Pty {
			terminals = append(terminals, c)
		}
		if c.Type != "" {
			programs = append(programs, c)
		}
	}
	switch {
	case len(terminals) == 1:
		return terminals[0], nil
	case len(programs) == 1:
		return programs[0], nil
	case len(list) == 1:
		return list[0], nil
	case len(list) == 0:
		return Channel{}, fmt.Errorf("%w: the recording has none", ErrNoChannel)
	}
	return Channel{}, fmt.Errorf("%w as the only one: there are %s", ErrNoChannel, describe(list))
}

// Find returns channel id of list.
func Find(list []Channel, id uint32) (Channel, error) {
	for _, c := range list {
		if c.ID == id {
			return c, nil
		}
	}
	return Channel{}, fmt.Errorf("%w: %d: there are %s", ErrNoChannel, id, describe(list))
}

func describe(list []Channel) string {
	var all []string
	for _, c := range list {
		all = append(all, c.String())
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, "; ")
}

// frames yields what a reader has. An error is yielded last; the recording's end is none.
func frames(r *recording.Reader) iter.Seq2[recording.Frame, error] {
	return func(yield func(recording.Frame, error) bool) {
		for {
			f, err := r.Next()
			if err == io.EOF {
				return
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// ofChannel yields the frames of one channel.
func ofChannel(r *recording.Reader, id uint32) iter.Seq2[recording.Frame, error] {
	return func(yield func(recording.Frame, error) bool) {
		for f, err := range frames(r) {
			if err == nil && f.Channel != id {
				continue
			}
			if !yield(f, err) {
				return
			}
		}
	}
}
