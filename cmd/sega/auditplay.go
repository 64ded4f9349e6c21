package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sega/audit/recording"
	"sega/broker/api"
)

type playOptions struct {
	identity, reason string
	speed            float64
	maxIdle          time.Duration
	instant, raw     bool
}

func newAuditPlay(a *app) *cobra.Command {
	var o playOptions
	c := &cobra.Command{Use: "play SESSION", Short: "Replay an SSH session in this terminal", Args: exactly("SESSION"),
		Example: "  sega audit play ssh_abc… --reason INC-7 --identity ~/reviewer.age\n  sega audit play ssh_abc… --reason INC-7 --speed 4 --max-idle 2s",
		Long: "Replay what the person saw. The recording is verified first; it opens with a reviewer's age identity, from --identity\n" +
			"or SEGA_AUDIT_IDENTITY. Where stdout is no terminal, everything is written at once. That you replay it is an event.",
		RunE: func(cmd *cobra.Command, args []string) error { return a.play(cmd.Context(), args[0], o) }}
	viewingFlags(c, &o.identity, &o.reason)
	c.Flags().Float64Var(&o.speed, "speed", 1, "times as fast")
	c.Flags().DurationVar(&o.maxIdle, "max-idle", 0, "no pause longer than this")
	c.Flags().BoolVar(&o.raw, "raw", false, "let the recorded side also ask your terminal and reach its clipboard and title")
	c.Flags().BoolVar(&o.instant, "instant", false, "without pauses")
	return c
}

func (a *app) play(ctx context.Context, id string, o playOptions) error {
	if o.speed <= 0 {
		return usagef("--speed is above 0")
	}
	t, err := a.openTape(ctx, id, api.PurposePlay, viewing{o.identity, o.reason})
	if err != nil {
		return err
	}
	defer t.close()
	r, err := t.reader()
	if err != nil {
		return err
	}
	return a.replay(ctx, r, o)
}

// replay writes the host's output as it was. On a terminal it leaves a sane one behind.
func (a *app) replay(ctx context.Context, r *recording.Reader, o playOptions) error {
	out, isFile := a.out.(*os.File)
	terminal := isFile && term.IsTerminal(int(out.Fd()))
	var to io.Writer = a.out
	if terminal && !o.raw {
		to = newHarmless(a.out)
	}
	err := recording.Play(ctx, r, to, recording.PlayOptions{Speed: o.speed, MaxIdle: o.maxIdle, Instant: o.instant || !terminal})
	if terminal {
		// Leave the alternate screen (1047: 1049 would move the cursor back too, onto what was shown
		// last), show the cursor, reset colours, character set, mouse and paste modes.
		fmt.Fprint(a.out, "\x1b[?1047l\x1b[?25h\x1b[0m\x1b(B\x0f\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\r\n")
	}
	if errors.Is(err, recording.ErrInterrupted) {
		fmt.Fprintln(a.err, "sega: the recording ends here without an end: it was interrupted, or goes on")
		return nil
	}
	return err
}
