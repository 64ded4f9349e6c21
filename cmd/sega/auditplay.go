package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sega/audit/recording"
	"sega/audit/recording/export"
	"sega/broker/api"
)

type playOptions struct {
	identity, reason string
	channel, find    string
	from             time.Duration
	speed            float64
	maxIdle          time.Duration
	instant, raw     bool
}

func newAuditPlay(a *app) *cobra.Command {
	var o playOptions
	c := &cobra.Command{Use: "play SESSION", Short: "Replay an SSH session in this terminal", Args: exactly("SESSION"),
		Example: "  sega audit play ssh_abc… --reason INC-7 --identity ~/reviewer.age\n  sega audit play ssh_abc… --reason INC-7 --speed 4 --max-idle 2s\n  sega audit play ssh_abc… --reason INC-7 --find 'rm -rf'",
		Long: "Replay what the person saw. The recording is verified first; it opens with a reviewer's age identity, from --identity\n" +
			"or SEGA_AUDIT_IDENTITY. That you replay it, and why, is an event.\n\n" +
			"Keys: space pauses, . shows the next piece, → ← (or ] [) go 10 s on or back, m M to the next or last marker (shell, exec,\n" +
			"resize, exit), / searches what the screen showed, n N go to the next or last hit, + - change the speed, i skips pauses, q quits.\n\n" +
			"Where stdout is no terminal, everything is written at once.",
		RunE: func(cmd *cobra.Command, args []string) error { return a.play(cmd.Context(), args[0], o) }}
	viewingFlags(c, &o.identity, &o.reason)
	c.Flags().Float64Var(&o.speed, "speed", 1, "times as fast")
	c.Flags().DurationVar(&o.maxIdle, "max-idle", 0, "no pause longer than this")
	c.Flags().DurationVar(&o.from, "from", 0, "begin there, like 3m20s")
	c.Flags().StringVar(&o.find, "find", "", "begin where the screen first showed this text")
	c.Flags().StringVar(&o.channel, "channel", "", "number of a channel, or all; default: the terminal's")
	c.Flags().BoolVar(&o.raw, "raw", false, "let the recorded side also ask your terminal and reach its clipboard and title")
	c.Flags().BoolVar(&o.instant, "instant", false, "without pauses and keys")
	return c
}

// check finds what is wrong before anything is asked of the broker.
func (o playOptions) check(interactive bool) error {
	_, err := strconv.ParseUint(o.channel, 10, 32)
	switch {
	case !(o.speed > 0):
		return usagef("--speed is above 0")
	case err != nil && o.channel != "" && o.channel != allChannels:
		return usagef("--channel is a number, or all")
	case o.from < 0 || o.maxIdle < 0:
		return usagef("--from and --max-idle are not below 0")
	case o.from > 0 && o.find != "":
		return usagef("begin at --from or at --find")
	case (o.from > 0 || o.find != "") && !interactive:
		return usagef("--from and --find are for a terminal; to search elsewhere run: sega audit export --format text")
	}
	return nil
}

func (a *app) play(ctx context.Context, id string, o playOptions) error {
	interactive := !o.instant && a.isTerminal() && a.stdin != nil && term.IsTerminal(int(a.stdin.Fd()))
	if err := o.check(interactive); err != nil {
		return err
	}
	t, err := a.openTape(ctx, id, api.PurposePlay, viewing{o.identity, o.reason})
	if err != nil {
		return err
	}
	defer t.close()
	channel, err := o.choose(t, interactive)
	if err != nil {
		return err
	}
	if interactive {
		return a.playHere(ctx, t, channel, o)
	}
	r, err := t.reader()
	if err != nil {
		return err
	}
	return a.replay(ctx, r, channel, o)
}

// choose returns the channel to play, or nil for all. On a terminal several at once would be a
// mixture that nobody saw: there it is the first that had a terminal.
func (o playOptions) choose(t *tape, interactive bool) (*uint32, error) {
	if o.channel == allChannels || o.channel == "" && !interactive {
		return nil, nil
	}
	r, err := t.reader()
	if err != nil {
		return nil, err
	}
	list, err := export.Channels(r)
	if err != nil {
		return nil, err
	}
	if o.channel != "" {
		n, _ := strconv.ParseUint(o.channel, 10, 32) // checked
		c, err := export.Find(list, uint32(n))
		return &c.ID, err
	}
	for _, c := range list {
		if c.Pty {
			return &c.ID, nil
		}
	}
	return nil, nil
}

// replay writes the host's output as it was. On a terminal it leaves a sane one behind.
func (a *app) replay(ctx context.Context, r *recording.Reader, channel *uint32, o playOptions) error {
	terminal := a.isTerminal()
	options := recording.PlayOptions{Speed: o.speed, MaxIdle: o.maxIdle, Instant: o.instant || !terminal, Channel: channel}
	var to io.Writer = a.out
	if terminal && !o.raw {
		filter := export.NewHarmless(a.out)
		to = filter
		options.OnEvent = func(_ uint32, e recording.Event) error { filter.Note(e); return nil }
	}
	err := recording.Play(ctx, r, to, options)
	if terminal {
		_, _ = io.WriteString(a.out, sane+"\r\n")
	}
	return a.ended(err)
}

// playHere replays with keys, and gives the terminal back as it was, whatever ends it.
func (a *app) playHere(ctx context.Context, t *tape, channel *uint32, o playOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
	defer stop()
	s, err := readScore(ctx, t.reader, channel)
	if err != nil {
		return err
	}
	p := &player{open: t.reader, out: a.out, size: a.terminalSize, score: s, channel: channel, raw: o.raw, speed: o.speed, idle: o.maxIdle > 0, maxIdle: o.maxIdle}
	from := o.from
	if o.find != "" {
		if p.hits, err = findText(ctx, t.reader, channel, o.find); err != nil {
			return err
		}
		if len(p.hits.lines) == 0 {
			return fmt.Errorf("the screen of %s never showed %q%s", t.id, o.find, p.hits.more())
		}
		from = p.hits.lines[0].Offset
	}
	ctx, quit := context.WithCancelCause(ctx)
	defer quit(nil)
	k, err := openKeyboard(a.stdin, func() { quit(errQuit) })
	if err != nil {
		return err
	}
	defer k.close()
	if left, err := a.preface(ctx, k, p, len(t.others(s, channel)) > 0); left || err != nil {
		return err
	}
	defer a.leave(p)
	if err = p.start(ctx, from); err == nil {
		err = p.run(ctx, k.keys)
	}
	return left(ctx, err)
}

// left tells who quits from who is cut off.
func left(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errQuit):
		return nil
	case err != nil && ctx.Err() != nil:
		return errCancelled
	}
	return err
}

// others are the channels that are not played.
func (t *tape) others(s score, channel *uint32) (list []export.Channel) {
	for _, c := range s.channels {
		if channel != nil && c.ID != *channel {
			list = append(list, c)
		}
	}
	return list
}

// preface says what the reviewer must know before he sees anything, and waits for a key.
func (a *app) preface(ctx context.Context, k *keyboard, p *player, others bool) (quit bool, err error) {
	var text []string
	cols, rows := p.size()
	if int(p.score.cols) > cols || int(p.score.rows) > rows {
		text = append(text, fmt.Sprintf("recorded on %d×%d, and this terminal has %d×%d: lines will be out of place; make it larger first", p.score.cols, p.score.rows, cols, rows))
	}
	if others {
		text = append(text, "the session has other channels, too: sega audit play --channel N")
		for _, c := range p.score.channels {
			text = append(text, "  "+escapeLine(c.String()))
		}
	}
	if len(text) == 0 {
		return false, nil
	}
	fmt.Fprintf(a.err, "sega: %s\r\npress a key, q to quit\r\n", strings.Join(text, "\r\n"))
	select {
	case key, ok := <-k.keys:
		return !ok || key == 'q' || key == keyBreak, nil
	case <-ctx.Done():
		return true, left(ctx, context.Cause(ctx))
	}
}

// leave puts the cursor behind what was shown.
func (a *app) leave(p *player) {
	_, rows := p.size()
	fmt.Fprintf(a.out, "%s\x1b[%d;1H\x1b[K\r\n", sane, rows)
}

// terminalSize is that of stdout now.
func (a *app) terminalSize() (cols, rows int) {
	if f, isFile := a.out.(*os.File); isFile {
		if cols, rows, err := term.GetSize(int(f.Fd())); err == nil && cols > 0 && rows > 0 {
			return cols, rows
		}
	}
	return 80, 24
}
