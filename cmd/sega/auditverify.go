package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/broker/client"
)

// Ways to verify the log.
const (
	modeWhole = "whole"
	modeSince = "since-last"
)

// verification is what `audit verify --json` prints.
type verification struct {
	OK         bool            `json:"ok"`
	Mode       string          `json:"mode"`
	From       int64           `json:"from"`             // index of the first event that was read
	Since      *time.Time      `json:"since,omitempty"`  // when what lies before it was verified
	Whole      *time.Time      `json:"whole,omitempty"`  // when the whole log was verified last
	Failed     *time.Time      `json:"failed,omitempty"` // when the whole log did not verify, where it has not since
	Events     int64           `json:"events"`           // that were read
	Size       int64           `json:"size"`             // of the log, as signed
	Root       string          `json:"root"`
	Remembered int             `json:"remembered_checkpoints"`
	Rollups    int             `json:"rollups"`
	RolledUp   int64           `json:"rolled_up"`          // how many events the rollups count
	Checked    bool            `json:"recordings_checked"` // else the count of recordings says nothing
	Recordings int             `json:"recordings"`
	Live       int             `json:"live_sessions"`
	Omitting   int             `json:"content_left_out"` // recordings that are sound but for bytes of files that policy kept out
	Found      int             `json:"found"`
	Problems   []audit.Problem `json:"problems"`
	Seconds    float64         `json:"seconds"`

	report       audit.Report // what the rows gave, zero where it did not come to that
	contradicted bool         // a signed checkpoint or a proof said something about the log that ended it
	good, live   int          // recordings that are sound, and those of them whose sessions live
}

// verifyOptions are the flags of `audit verify`.
type verifyOptions struct {
	noRecordings, since bool
	key                 string
}

func newAuditVerify(a *app) *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{Use: "verify [BUNDLE…]", Short: "Verify the log and every recording on this machine, or bundles of `audit prove`", Args: cobra.ArbitraryArgs,
		Example: "  sega audit verify\n  sega audit verify --since-last\n  sega audit verify --key 'sega.corp.example/audit+1a2b3c4d+AbCd…' evidence.json",
		Long: "Recompute every leaf from its bytes and the root from the leaves, derive every indexed column and every rollup anew, and hold\n" +
			"the result against the checkpoint signed by the log's key, pinned at login, and against the checkpoints that this machine has\n" +
			"seen. Then every recording is held against what the log says of it. Nothing is taken from the broker on trust.\n\n" +
			"What was verified is remembered. With --since-last, only what came since is read: the log must extend what was verified then.\n" +
			"That finds a history that was rewritten in the tree, but not bytes that were changed in the database without it, nor rollups,\n" +
			"nor recordings of sessions that had ended by then; only the whole log shows those. Where it failed on this machine,\n" +
			"--since-last says so and fails too, until the whole log verifies.\n\n" +
			"With a BUNDLE, a file of `sega audit prove`, nothing is asked of any network: the log's public key is all that is needed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if o.since || o.noRecordings {
					return usagef("a bundle is verified by itself: leave out --since-last and --no-recordings")
				}
				return a.verifyBundles(args, o)
			}
			if o.key != "" {
				return usagef("--key is for bundles: the log is verified with the key that was pinned at login")
			}
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			return s.verifyLog(cmd.Context(), o)
		}}
	f := c.Flags()
	f.BoolVar(&o.since, "since-last", false, "only what came since the last verification on this machine")
	f.BoolVar(&o.noRecordings, "no-recordings", false, "the log alone; such a verification is not remembered")
	f.StringVar(&o.key, "key", "", "public key of the bundle's log, origin+hash+key, or a file that holds it; default: the one pinned at login")
	return c
}

// verifying is one verification of the log.
type verifying struct {
	*session
	verifyOptions
	verifier note.Verifier
	start    time.Time
	before   tlog.Tree // that this machine remembered before it asked for anything
	last     verified  // the verification before, where one is gone on from
	signed   []byte    // the checkpoint that is verified
	found    *collector
	out      verification
}

func (s *session) verifyLog(ctx context.Context, o verifyOptions) error {
	verifier, err := note.NewVerifier(s.saved().LogKey)
	if err != nil {
		return err
	}
	mode := modeWhole
	if o.since {
		mode = modeSince
	}
	v := &verifying{session: s, verifyOptions: o, verifier: verifier, start: s.app.now(), found: newCollector(), out: verification{Mode: mode, Problems: []audit.Problem{}}}
	_, v.before = s.witness.Latest()
	if err := v.run(ctx); err != nil {
		return v.contradicted(err)
	}
	return v.conclude()
}

func (v *verifying) run(ctx context.Context) error {
	known, err := v.checkpoint(ctx, 0)
	if err != nil {
		return err
	}
	judge := audit.Verifier{Event: v.take, Prove: func(from, to int64) (tlog.TreeProof, error) { return v.Proof(ctx, from, to) }}
	if v.since {
		judge.From, err = v.goOn(ctx, known)
	} else {
		judge.Rollups, err = v.rollups(ctx, known.Tree.N)
	}
	if err != nil {
		return err
	}
	signed := known
	if judge.Rollups != nil { // they may be of a later moment than the checkpoint
		v.out.RolledUp = judge.Rollups.UpTo()
		if signed, err = v.checkpoint(ctx, v.out.RolledUp); err != nil {
			return err
		}
	}
	judge.Checkpoint, v.out.From = signed.Tree, judge.From.Size()
	judge.Leaves = func(from, to int64) ([]tlog.Hash, error) { return v.leaves(ctx, signed.Tree, from, to) }
	for _, tree := range []tlog.Tree{v.before, v.last.tree} {
		if tree.N > 0 && tree.N >= v.out.From {
			judge.Remembered = append(judge.Remembered, tree)
		}
	}
	report, err := judge.Verify(v.rows(ctx, v.out.From, signed.Tree.N))
	if err != nil {
		return err
	}
	v.out.Events, v.out.Size, v.out.Root, v.out.Remembered, v.out.Rollups = report.Rows, signed.Tree.N, report.Tree.Hash.String(), report.Remembered, report.Rollups
	v.out.Problems, v.out.Found, v.out.report = report.Problems, report.Found, report
	if v.noRecordings {
		return nil
	}
	return v.recordings(ctx)
}

// settled is how often, and how long apart, the log's checkpoint is asked for until it covers the
// rollups: with several brokers, one may know of another's commit a second late.
const (
	settledTries = 20
	settledPause = 100 * time.Millisecond
)

// checkpoint returns the log's checkpoint, of at least that size where it comes to have one.
func (v *verifying) checkpoint(ctx context.Context, size int64) (audit.Checkpoint, error) {
	for try := 1; ; try++ {
		msg, err := v.Checkpoint(ctx)
		if err != nil {
			return audit.Checkpoint{}, err
		}
		if err := v.witness.Observe(ctx, msg); err != nil {
			return audit.Checkpoint{}, err
		}
		v.signed = msg
		c, err := audit.OpenCheckpoint(msg, v.verifier)
		if err != nil || c.Tree.N >= size || try == settledTries {
			return c, err
		}
		select {
		case <-ctx.Done():
			return c, ctx.Err()
		case <-time.After(settledPause):
		}
	}
}

// rollups reads the log's rollups, which are to be held against its events.
func (v *verifying) rollups(ctx context.Context, size int64) (check *audit.RollupCheck, err error) {
	err = v.Rollups(ctx, func(upTo int64) { check = audit.NewRollupCheck(upTo, size) }, func(r client.Rollup) {
		check.Add(audit.Rollup{RollupKey: audit.RollupKey{Cube: r.Cube, Day: r.Day, Kind: r.Kind, Outcome: r.Outcome, Email: r.Email, Sub: r.Sub, Target: r.Target}, N: r.N})
	})
	return check, err
}

// leaves reads the leaf hashes from..to-1 of a tree from its tiles.
func (v *verifying) leaves(ctx context.Context, tree tlog.Tree, from, to int64) ([]tlog.Hash, error) {
	var indexes []int64
	for i := from; i < to; i++ {
		indexes = append(indexes, tlog.StoredHashIndex(0, i))
	}
	return tlog.TileHashReader(tree, tiles{v.session, ctx}).ReadHashes(indexes)
}

// take gathers what recordings are held against; commands, of which there may be many, are not among it.
func (v *verifying) take(index int64, e audit.Event) error {
	if e.Kind == audit.KindSessionCommand {
		return nil
	}
	return v.found.add(index, e)
}

// rows reads the log as stored.
func (s *session) rows(ctx context.Context, from, to int64) iter.Seq2[audit.Row, error] {
	return func(yield func(audit.Row, error) bool) {
		for r, err := range s.LogRows(ctx, from, to) {
			if !yield(audit.Row{Index: r.Index, Body: r.Body, Salt: r.Salt, Details: r.Details, Columns: r.Columns, Leaf: r.Leaf}, err) || err != nil {
				return
			}
		}
	}
}

// recordings holds every recording against the log, and the log against the recordings.
func (v *verifying) recordings(ctx context.Context) error {
	for _, id := range v.found.order {
		e := v.found.sessions[id]
		if !e.recorded() {
			continue
		}
		verdict, err := v.verdict(ctx, e)
		if err != nil {
			return fmt.Errorf("recording of %s: %w", id, err)
		}
		v.out.Recordings++
		if e.end == nil {
			v.out.Live++
		}
		if !e.sound(verdict) {
			v.out.Found++
			v.out.Problems = append(v.out.Problems, audit.Problem{Index: -1, ID: id, Finding: audit.FindingRecording, What: fmt.Sprintf("recording %s: %s: %s", id, verdict.Status, verdict.Detail)})
			continue
		}
		if v.out.good++; verdict.Omissions > 0 {
			v.out.Omitting++
		}
		if e.end == nil {
			v.out.live++
		}
	}
	v.out.Checked = true
	return nil
}

// contradicted prints what an error says about the log, where it says something, and returns it.
func (v *verifying) contradicted(err error) error {
	finding := audit.FindingOf(err)
	if finding == "" {
		return err
	}
	v.out.Found++
	v.out.contradicted = true
	v.out.Problems = append(v.out.Problems, audit.Problem{Index: -1, Finding: finding, What: err.Error()})
	v.out.Seconds = v.app.now().Sub(v.start).Seconds()
	if failed := errors.Join(v.rememberFailure(), v.out.print(v.app.out, v.app.json)); failed != nil {
		return errors.Join(err, failed)
	}
	return withHint(err, "keep this machine's %s as evidence and tell the security staff", checkpointFile(v.saved().Origin))
}

// conclude prints the verdict and remembers a good one; anything wrong is an error.
func (v *verifying) conclude() error {
	v.out.OK, v.out.Seconds = v.out.Found == 0 && v.out.Failed == nil, v.app.now().Sub(v.start).Seconds()
	if err := v.out.print(v.app.out, v.app.json); err != nil {
		return err
	}
	if v.out.Found > 0 {
		err := withKind(kindUnverified, fmt.Errorf("the audit log does not verify: %d problems", v.out.Found))
		return withHint(errors.Join(err, v.rememberFailure()), "keep the database and this machine's sega folder as evidence")
	}
	if v.out.Failed != nil {
		return withKind(kindUnverified, withHint(fmt.Errorf("what came since verifies, but the whole log did not on %s", stamp(*v.out.Failed)), "run: sega audit verify"))
	}
	if v.noRecordings {
		return nil
	}
	return v.remember()
}

// unsound are the findings of rows that are not the ones that were signed, or contradict themselves.
var unsound = []audit.Finding{audit.FindingRewritten, audit.FindingDropped, audit.FindingReordered, audit.FindingInserted, audit.FindingTruncated,
	audit.FindingRoot, audit.FindingMalformed, audit.FindingColumn, audit.FindingDetails, audit.FindingUnproven}

// print writes how much was read and what of it is sound, and what is not last, where it is seen.
func (o verification) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return writeJSON(w, o)
	}
	var text strings.Builder
	if o.Root != "" {
		o.sound(&text)
	}
	for _, p := range o.Problems {
		fmt.Fprintf(&text, "BAD  %s: %s\n", p.Finding, escape(p.What))
	}
	if o.Failed != nil {
		fmt.Fprintf(&text, "BAD  the last verification of the whole log, on %s, failed, and none has succeeded since\n", stamp(*o.Failed))
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// sound writes what was read. What of it is not sound is not called ok.
func (o verification) sound(w io.Writer) {
	what := fmt.Sprintf("%d events", o.Events)
	if o.Mode == modeSince {
		what = fmt.Sprintf("%d events since the %d that were verified on %s", o.Events, o.From, stamp(*o.Since))
	}
	if o.report.Has(unsound...) {
		fmt.Fprintf(w, "     %s, of %d that are signed; not all are sound\n", what, o.Size-o.From)
	} else {
		fmt.Fprintf(w, "ok   %s, root %s\n", what, o.Root)
	}
	if o.Mode == modeSince {
		fmt.Fprintf(w, "     the whole log was last verified on %s\n", stamp(*o.Whole))
	}
	if !o.contradicted && !o.report.Has(audit.FindingForked, audit.FindingRolledBack, audit.FindingUnproven) {
		fmt.Fprintf(w, "ok   consistent with %d checkpoints that this machine saw before\n", o.Remembered)
	}
	if o.Mode == modeWhole && !o.report.Has(audit.FindingRollup) {
		fmt.Fprintf(w, "ok   %d rollups of the first %d events\n", o.Rollups, o.RolledUp)
	}
	o.soundRecordings(w)
	fmt.Fprintf(w, "     in %s\n", time.Duration(o.Seconds*float64(time.Second)).Round(time.Millisecond))
}

func (o verification) soundRecordings(w io.Writer) {
	mark, some := "ok  ", ""
	if o.good < o.Recordings {
		some = fmt.Sprintf(" of %d", o.Recordings)
	}
	switch {
	case !o.Checked && o.contradicted:
		fmt.Fprintln(w, "-    recordings were not checked")
		return
	case !o.Checked:
		fmt.Fprintln(w, "-    recordings were not checked (--no-recordings)")
		return
	case o.good == 0 && o.Recordings > 0:
		mark = "    "
	}
	fmt.Fprintf(w, "%s %d%s recordings, %d of them of sessions that are still live\n", mark, o.good, some, o.live)
	if o.Omitting > 0 {
		fmt.Fprintf(w, "     %d of them not complete: policy had content of files left out\n", o.Omitting)
	}
}
