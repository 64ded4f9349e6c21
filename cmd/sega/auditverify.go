package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
)

// verification is what `audit verify --json` prints.
type verification struct {
	OK         bool            `json:"ok"`
	Events     int64           `json:"events"`
	Root       string          `json:"root"`
	Remembered int             `json:"remembered_checkpoints"`
	Recordings int             `json:"recordings"`
	Live       int             `json:"live_sessions"`
	Problems   []audit.Problem `json:"problems"`
	Seconds    float64         `json:"seconds"`
}

func newAuditVerify(a *app) *cobra.Command {
	var asJSON, noRecordings bool
	c := &cobra.Command{Use: "verify", Short: "Verify the whole log and every recording on this machine", Args: atMost(0), Example: "  sega audit verify",
		Long: "Recompute every leaf from its bytes and the root from the leaves, derive every indexed column anew, and hold the result against\n" +
			"the checkpoint signed by the log's key, pinned at login, and against the checkpoint that this machine saw last. Then every\n" +
			"recording is held against what the log says of it. Nothing is taken from the broker on trust.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			return s.verifyLog(cmd.Context(), asJSON, noRecordings)
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	c.Flags().BoolVar(&noRecordings, "no-recordings", false, "the log alone")
	return c
}

func (s *session) verifyLog(ctx context.Context, asJSON, noRecordings bool) error {
	start := s.app.now()
	verifier, err := note.NewVerifier(s.saved.LogKey)
	if err != nil {
		return err
	}
	_, before := s.app.witness.Latest()
	msg, err := s.Checkpoint(ctx)
	if err != nil {
		return s.alarm(err)
	}
	signed, err := audit.OpenCheckpoint(msg, verifier)
	if err != nil {
		return err
	}
	found := newCollector()
	v := audit.Verifier{Checkpoint: signed.Tree, Event: found.add}
	if before.N > 0 {
		v.Remembered = []tlog.Tree{before}
	}
	report, err := v.Verify(s.rows(ctx, signed.Tree.N))
	if err != nil {
		return err
	}
	out := verification{Events: report.Rows, Root: report.Tree.Hash.String(), Remembered: report.Remembered, Problems: report.Problems}
	if !noRecordings {
		if err := s.verifyRecordings(ctx, found, &out); err != nil {
			return err
		}
	}
	out.OK, out.Seconds = len(out.Problems) == 0, s.app.now().Sub(start).Seconds()
	return s.app.report(out, report.Found, asJSON)
}

// alarm says what it means when the broker's checkpoint contradicts what was seen before.
func (s *session) alarm(err error) error {
	if errors.Is(err, audit.ErrRollback) || errors.Is(err, audit.ErrFork) {
		return withHint(err, "keep this machine's %s as evidence and tell the security staff", checkpointFile(s.saved.Origin))
	}
	return err
}

// rows reads the log as stored.
func (s *session) rows(ctx context.Context, size int64) iter.Seq2[audit.Row, error] {
	return func(yield func(audit.Row, error) bool) {
		for r, err := range s.LogRows(ctx, 0, size) {
			if !yield(audit.Row{Index: r.Index, Body: r.Body, Salt: r.Salt, Details: r.Details, Columns: r.Columns, Leaf: r.Leaf}, err) || err != nil {
				return
			}
		}
	}
}

// verifyRecordings holds every recording against the log, and the log against the recordings.
func (s *session) verifyRecordings(ctx context.Context, found *collector, out *verification) error {
	for _, id := range found.order {
		v := found.sessions[id]
		if !v.recorded() {
			continue
		}
		verdict, err := s.verdict(ctx, v)
		if err != nil {
			return fmt.Errorf("recording of %s: %w", id, err)
		}
		out.Recordings++
		if v.end == nil {
			out.Live++
		}
		if !v.sound(verdict) {
			out.Problems = append(out.Problems, audit.Problem{Index: -1, ID: id, What: fmt.Sprintf("recording %s: %s: %s", id, verdict.Status, verdict.Detail)})
		}
	}
	return nil
}

// report prints the verdict; anything wrong is an error that names what.
func (a *app) report(v verification, found int, asJSON bool) error {
	if asJSON {
		if err := writeJSON(a.out, v); err != nil {
			return err
		}
	} else {
		for _, p := range v.Problems {
			fmt.Fprintf(a.out, "BAD  %s\n", escape(p.What))
		}
	}
	if !v.OK {
		return withHint(fmt.Errorf("the audit log does not verify: %d problems", max(found, len(v.Problems))), "keep the database and this machine's sega folder as evidence")
	}
	if !asJSON {
		fmt.Fprintf(a.out, "ok   %d events, root %s\nok   consistent with %d checkpoints that this machine saw before\nok   %d recordings, %d of them of sessions that are still live\n     in %s\n",
			v.Events, v.Root, v.Remembered, v.Recordings, v.Live, time.Duration(v.Seconds*float64(time.Second)).Round(time.Millisecond))
	}
	return nil
}
