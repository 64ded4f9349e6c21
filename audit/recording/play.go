package recording

import (
	"context"
	"fmt"
	"io"
	"time"
)

// PlayOptions say how to play. The zero value plays every channel as it was, but those of forwards, of
// which nobody saw anything.
type PlayOptions struct {
	Speed   float64       // 2 plays twice as fast; 0 is 1
	MaxIdle time.Duration // no pause of the recording counts for longer; 0 is no limit
	Instant bool          // no pauses at all
	Channel *uint32       // this channel alone

	// OnEvent, if set, is called in its turn with each event, "pty" and "resize" with the size of
	// the terminal among them. An error of it ends Play.
	OnEvent func(channel uint32, e Event) error
}

// Play writes what the host sent, output and standard error, to w at the pace of the recording.
// Bytes are written as they are: they may drive the terminal behind w in any way it knows. It
// returns nil at the recording's end, ErrInterrupted at the end of an interrupted one, the cause
// of ctx when that ends, or an error of reading or writing.
func Play(ctx context.Context, r *Reader, w io.Writer, o PlayOptions) error {
	if o.Speed < 0 {
		return fmt.Errorf("recording: play at %g times: the speed must be above 0", o.Speed)
	}
	p := pacer{options: o, start: time.Now()}
	forwards := map[uint32]bool{}
	for {
		f, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if f.Stream == StreamEvent && o.Channel == nil {
			if e, err := f.Event(); err == nil && e.IsForward() {
				forwards[f.Channel] = true
			}
		}
		if o.skips(f) || forwards[f.Channel] {
			continue
		}
		if err := p.wait(ctx, f.Offset); err != nil {
			return err
		}
		if err := o.show(w, f); err != nil {
			return err
		}
	}
}

func (o PlayOptions) skips(f Frame) bool {
	return f.Stream == StreamIn || o.Channel != nil && *o.Channel != f.Channel
}

func (o PlayOptions) show(w io.Writer, f Frame) error {
	if f.Stream != StreamEvent {
		_, err := w.Write(f.Data)
		return err
	}
	if o.OnEvent == nil {
		return nil
	}
	e, err := f.Event()
	if err != nil {
		return err
	}
	return o.OnEvent(f.Channel, e)
}

// pacer waits until a frame is due. Due times are reckoned from the start, so that a slow writer
// is caught up with and errors do not add up.
type pacer struct {
	options PlayOptions
	start   time.Time
	last    time.Duration // offset of the frame before
	at      time.Duration // its place in the recording once pauses are shortened
}

func (p *pacer) wait(ctx context.Context, offset time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	gap := max(offset-p.last, 0)
	p.last = max(offset, p.last)
	if p.options.Instant {
		return nil
	}
	if p.options.MaxIdle > 0 {
		gap = min(gap, p.options.MaxIdle)
	}
	p.at += gap
	due := p.at
	if p.options.Speed > 0 {
		due = time.Duration(float64(p.at) / p.options.Speed)
	}
	return sleep(ctx, time.Until(p.start.Add(due)))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
