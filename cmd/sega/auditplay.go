package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sega/audit/recording"
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
		Example: "  sega audit play ssh_abc… --identity ~/reviewer.age\n  sega audit play ssh_abc… --speed 4 --max-idle 2s",
		Long: "Replay what the person saw. The recording is verified first; it opens with a reviewer's age identity, from --identity\n" +
			"or SEGA_AUDIT_IDENTITY. Where stdout is no terminal, everything is written at once. That you replay it is an event.",
		RunE: func(cmd *cobra.Command, args []string) error { return a.play(cmd.Context(), args[0], o) }}
	c.Flags().StringVar(&o.identity, "identity", "", "file with the reviewer's age identity")
	c.Flags().StringVar(&o.reason, "reason", "", "why you look")
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
	identities, err := a.identities(o.identity)
	if err != nil {
		return err
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	v, err := s.evidenceOf(ctx, id)
	if err != nil {
		return err
	}
	file, err := s.fetch(ctx, id, o.reason)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	verdict, err := v.judge(file)
	if err != nil {
		return err
	}
	if !v.sound(verdict) {
		return fmt.Errorf("the recording of %s is not what the log says: %s: %s", id, verdict.Status, verdict.Detail)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r, err := recording.Open(file, identities...)
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

// fetch downloads a recording into a file that has no name and goes with the process.
func (s *session) fetch(ctx context.Context, id, reason string) (*os.File, error) {
	r, err := s.Recording(ctx, id, "play", reason)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	f, err := os.CreateTemp("", "sega-play-*")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name())
	if _, err := io.Copy(f, r); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// identities reads the reviewer's age identities.
func (a *app) identities(path string) ([]age.Identity, error) {
	path = firstOf(path, a.getenv("SEGA_AUDIT_IDENTITY"))
	if path == "" {
		return nil, usagef("recordings open with a reviewer's identity: --identity FILE, or SEGA_AUDIT_IDENTITY")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	defer func() { _ = f.Close() }()
	ids, err := age.ParseIdentities(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, withHint(fmt.Errorf("identity %s is not an age identity", path), "make one with: age-keygen -o reviewer.age")
	}
	return ids, nil
}
