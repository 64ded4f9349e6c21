package export

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"unicode"

	"sega/audit/recording"
	"sega/audit/recording/screen"
)

// Text writes what a channel showed, as plain text: of one with a terminal the lines of its screen
// as they became final, of any other its output and standard error. It holds no control characters
// but the line feed and the tab. It ends early with screen.ErrWork, or the cause of ctx.
func Text(ctx context.Context, w io.Writer, r *recording.Reader, c Channel) error {
	out := bufio.NewWriterSize(w, 64<<10)
	write := plain
	if c.Pty {
		write = rendered
	}
	err := write(ctx, out, r, c.ID)
	return errors.Join(err, out.Flush())
}

func rendered(ctx context.Context, w *bufio.Writer, r *recording.Reader, channel uint32) error {
	for line, err := range screen.Lines(ctx, r) {
		if err != nil {
			return err
		}
		if line.Channel != channel {
			continue
		}
		if _, err := w.WriteString(visible(line.Text) + "\n"); err != nil {
			return err
		}
	}
	return nil
}

func plain(ctx context.Context, w *bufio.Writer, r *recording.Reader, channel uint32) error {
	texts := map[recording.Stream]*decoder{recording.StreamOut: {}, recording.StreamErr: {}}
	var broken error
	for f, err := range ofChannel(r, channel) {
		if broken = errors.Join(err, context.Cause(ctx)); broken != nil {
			break
		}
		d, shown := texts[f.Stream]
		if !shown {
			continue
		}
		if _, err := w.WriteString(visible(d.add(f.Data))); err != nil {
			return err
		}
	}
	for _, s := range []recording.Stream{recording.StreamOut, recording.StreamErr} {
		if _, err := w.WriteString(visible(texts[s].rest())); err != nil {
			return err
		}
	}
	return broken
}

// visible drops what a terminal would obey or a reader could be deceived by.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return -1
		}
		return r
	}, s)
}
