package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sega/audit/recording"
	"sega/audit/recording/export"
	"sega/audit/recording/screen"
	"sega/broker/api"
)

// Formats of exports.
const (
	formatCast2 = "asciicast-v2"
	formatCast3 = "asciicast-v3"
	formatText  = "text"
	formatRaw   = "raw"
)

const allChannels = "all"

type exportOptions struct {
	identity, reason, format, output, channel, stream string
	input, unfiltered                                 bool
}

func newAuditExport(a *app) *cobra.Command {
	var o exportOptions
	c := &cobra.Command{Use: "export SESSION", Short: "Write the recording of an SSH session as asciicast, text or raw bytes", Args: exactly("SESSION"),
		Example: "  sega audit export ssh_abc… --reason INC-7 --format asciicast-v2 --output session.cast\n  sega audit export ssh_abc… --reason INC-7 --format text\n  sega audit export ssh_abc… --reason INC-7 --format raw --stream err --channel 2 --output err.bin",
		Long: "Write one channel of a recording, which is verified first: as asciicast of version 2 or 3, which players know; as text, what the\n" +
			"screen showed; or raw, the bytes of one stream exactly as they passed. A session with one terminal, or one channel, needs no\n" +
			"--channel. Of SFTP the text is one line: what it did are events. An asciicast holds Unicode alone: where the session had other\n" +
			"bytes, raw has them. What would make the terminal of whoever plays it act (set its clipboard or title, ask it) is left out, as\n" +
			"`sega audit play` does; --unfiltered keeps it, and raw is exact always. That you export is an event.",
		RunE: func(cmd *cobra.Command, args []string) error { return a.export(cmd.Context(), args[0], o) }}
	viewingFlags(c, &o.identity, &o.reason)
	c.Flags().StringVar(&o.format, "format", formatCast2, strings.Join([]string{formatCast2, formatCast3, formatText, formatRaw}, ", "))
	c.Flags().StringVar(&o.output, "output", "-", "new file, or - for stdout; with --channel all its name gets the channel's number")
	c.Flags().StringVar(&o.channel, "channel", "", "number of the channel, or all for a file each")
	c.Flags().StringVar(&o.stream, "stream", "out", "of a raw export: out, err or in")
	c.Flags().BoolVar(&o.input, "input", false, "put what was typed into the asciicast too, passwords included")
	c.Flags().BoolVar(&o.unfiltered, "unfiltered", false, "keep in the asciicast what makes a terminal act: clipboard, title, questions")
	return c
}

// check finds what is wrong before anything is asked of the broker.
func (o exportOptions) check(terminal bool) error {
	formats := []string{formatCast2, formatCast3, formatText, formatRaw}
	_, err := strconv.ParseUint(o.channel, 10, 32)
	switch {
	case !slices.Contains(formats, o.format):
		return usagef("--format is one of %s", strings.Join(formats, ", "))
	case !slices.Contains([]string{"out", "err", "in"}, o.stream):
		return usagef("--stream is out, err or in")
	case o.stream != "out" && o.format != formatRaw:
		return usagef("--stream belongs to --format raw")
	case o.input && o.format != formatCast2 && o.format != formatCast3:
		return usagef("--input belongs to an asciicast")
	case o.unfiltered && o.format != formatCast2 && o.format != formatCast3:
		return usagef("--unfiltered belongs to an asciicast: raw is exact always")
	case err != nil && o.channel != "" && o.channel != allChannels:
		return usagef("--channel is a number, or all")
	case o.channel == allChannels && o.toStdout():
		return usagef("--channel all writes a file for each: --output FILE")
	case o.toStdout() && terminal && o.format != formatText:
		return usagef("%s is not for a terminal: --output FILE, or a pipe", o.format)
	}
	return nil
}

func (o exportOptions) toStdout() bool { return o.output == "" || o.output == "-" }

// typed reports whether the export holds what the person typed.
func (o exportOptions) typed() bool { return o.input || o.stream == "in" }

func (a *app) export(ctx context.Context, id string, o exportOptions) error {
	if err := o.check(a.isTerminal()); err != nil {
		return err
	}
	t, err := a.openTape(ctx, id, api.PurposeExport, viewing{o.identity, o.reason})
	if err != nil {
		return err
	}
	defer t.close()
	r, err := t.reader()
	if err != nil {
		return err
	}
	if o.typed() && !r.Opens(recording.StreamIn) {
		return withHint(errors.New("your identity does not open what was typed"), "it opens for the input recipients of the bastion's configuration alone")
	}
	list, err := export.Channels(r)
	if err != nil {
		return err
	}
	if o.channel == allChannels {
		for _, c := range list {
			if err := a.exportFile(ctx, t, c, o, numbered(o.output, c.ID)); err != nil {
				return err
			}
		}
		return nil
	}
	c, err := o.choose(list)
	if err != nil {
		return err
	}
	if o.toStdout() {
		return a.ended(o.write(ctx, a.stdout(), t, c))
	}
	return a.exportFile(ctx, t, c, o, o.output)
}

func (o exportOptions) choose(list []export.Channel) (c export.Channel, err error) {
	if o.channel == "" {
		c, err = export.Choose(list)
	} else {
		n, _ := strconv.ParseUint(o.channel, 10, 32) // checked
		c, err = export.Find(list, uint32(n))
	}
	if errors.Is(err, export.ErrNoChannel) {
		err = withHint(err, "say which: --channel N, or all")
	}
	return c, err
}

// numbered is a file's name with a channel's number before its extension.
func numbered(name string, channel uint32) string {
	ext := filepath.Ext(name)
	return fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, ext), channel, ext)
}

// exportFile writes a new file that its owner alone reads. A failed one does not stay.
func (a *app) exportFile(ctx context.Context, t *tape, c export.Channel, o exportOptions, name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return withHint(err, "an export replaces no file: remove it, or name another")
	}
	if err != nil {
		return err
	}
	err = a.ended(o.write(ctx, f, t, c))
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	fmt.Fprintf(a.err, "sega: wrote %s\n", escape(name+": "+c.String()))
	return nil
}

// write writes one channel in the format.
func (o exportOptions) write(ctx context.Context, w io.Writer, t *tape, c export.Channel) error {
	r, err := t.reader()
	if err != nil {
		return err
	}
	switch o.format {
	case formatText:
		if isSFTP(c) {
			_, err := fmt.Fprintf(w, "%s is no text; what it did says: sega audit query 'session:%s kind:sftp.*'; its bytes: --format raw\n", escape(c.String()), t.id)
			return err
		}
		return export.Text(ctx, w, r, c)
	case formatRaw:
		return export.Raw(w, r, c.ID, map[string]recording.Stream{"in": recording.StreamIn, "out": recording.StreamOut, "err": recording.StreamErr}[o.stream])
	}
	version := 2
	if o.format == formatCast3 {
		version = 3
	}
	title := fmt.Sprintf("%s %s@%s %s", t.id, t.started.Login, t.started.Host, actorName(t.start.Actor))
	return export.Cast(w, r, export.CastOptions{Version: version, Channel: c, Title: title, Input: o.input, Unfiltered: o.unfiltered})
}

// isSFTP reports whether a channel speaks SFTP: that is no text, and has events of its own for what it did.
func isSFTP(c export.Channel) bool {
	return c.Type == recording.EventSubsystem && c.Command == api.SubsystemSFTP
}

// ended says that a recording has no end, which is no failure: it was written as far as it goes.
func (a *app) ended(err error) error {
	if errors.Is(err, recording.ErrInterrupted) {
		fmt.Fprintln(a.err, "sega: the recording ends here without an end: it was interrupted, or goes on")
		return nil
	}
	if errors.Is(err, screen.ErrWork) {
		return withHint(err, "its bytes as they passed: --format raw")
	}
	return err
}

// isTerminal reports whether stdout is a terminal.
func (a *app) isTerminal() bool {
	f, isFile := a.out.(*os.File)
	return isFile && term.IsTerminal(int(f.Fd()))
}

// stdout is where text may go: on a terminal nothing of it is obeyed.
func (a *app) stdout() io.Writer {
	if !a.isTerminal() {
		return a.out
	}
	return &escaping{w: a.out}
}

// escaping escapes what it is given and holds a character that is cut until it is whole.
type escaping struct {
	w    io.Writer
	held []byte
}

// Write implements io.Writer.
func (e *escaping) Write(p []byte) (int, error) {
	b := append(e.held, p...)
	whole := len(b)
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				whole -= n
			}
			break
		}
	}
	text := escape(string(bytes.ToValidUTF8(b[:whole], []byte("\ufffd"))))
	e.held = append([]byte(nil), b[whole:]...)
	if _, err := io.WriteString(e.w, text); err != nil {
		return 0, err
	}
	return len(p), nil
}
