package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/recording"
	"sega/broker/api"
)

// verifiedVersion is the one version of what is remembered.
const verifiedVersion = 1

// verified is what this machine remembers of its last verification that found nothing wrong: the
// checkpoint up to which it read the log, and the sessions that had not ended there, whose
// recordings a later verification must hold against what comes.
type verified struct {
	V          int           `json:"v"`
	Time       time.Time     `json:"time"`
	Whole      time.Time     `json:"whole"` // the last verification of the whole log
	Checkpoint string        `json:"checkpoint"`
	Sessions   []openSession `json:"sessions"`

	tree tlog.Tree // of the checkpoint
}

// openSession is a session that lived when the log was verified.
type openSession struct {
	Start   audit.Event     `json:"start"`
	Details json.RawMessage `json:"details"` // of Start
	// Head is the last that the log knew. It vouches for all before it, which were verified.
	Head *recording.Head `json:"head,omitempty"`
}

// verifiedFile lies beside the checkpoint.
func verifiedFile(origin string) string {
	return "verified-" + strings.TrimPrefix(checkpointFile(origin), "checkpoint-")
}

// failure is what this machine remembers of a verification of the whole log that failed, until one succeeds.
// It has a file of its own: what was verified before stays what it is.
type failure struct {
	V     int       `json:"v"`
	Time  time.Time `json:"time"`
	Found int       `json:"found"`
}

// failedFile lies beside the checkpoint.
func failedFile(origin string) string {
	return "failed-" + strings.TrimPrefix(checkpointFile(origin), "checkpoint-")
}

// goOn loads the last verification and proves that the log extends it: by the log's own proof, and
// by the hashes of its edge, which must give the root that was verified.
func (v *verifying) goOn(ctx context.Context, signed audit.Checkpoint) (edge audit.Frontier, err error) {
	if v.last, err = v.loadVerified(); err != nil {
		return edge, err
	}
	v.out.Since, v.out.Whole = &v.last.Time, &v.last.Whole
	if v.out.Failed, err = v.loadFailure(); err != nil {
		return edge, err
	}
	if signed.Tree.N < v.last.tree.N {
		return edge, fmt.Errorf("%w: %d events were verified here, now it signs %d", audit.ErrRollback, v.last.tree.N, signed.Tree.N)
	}
	proof, err := prove(v.Client)(ctx, v.last.tree.N, signed.Tree.N)
	if err != nil {
		return edge, err
	}
	if err := audit.CheckConsistency(proof, v.last.tree, signed.Tree); err != nil {
		return edge, fmt.Errorf("%w: its %d events do not extend the %d that were verified here: %w", audit.ErrFork, signed.Tree.N, v.last.tree.N, err)
	}
	if edge, err = v.edge(ctx, v.last.tree); err != nil {
		return edge, err
	}
	return edge, v.recall()
}

// edge reads the edge of a tree from the log's tiles, which must give the tree's root.
func (v *verifying) edge(ctx context.Context, tree tlog.Tree) (edge audit.Frontier, err error) {
	if tree.N == 0 {
		return edge, nil
	}
	edge, err = audit.LoadProvenFrontier(tree, tlog.TileHashReader(tree, tiles{v.session, ctx}))
	var problem *api.Problem
	if err != nil && !errors.As(err, &problem) { // the tiles came, and are wrong
		err = fmt.Errorf("%w: its tiles are not those of the %d events that were verified here: %w", audit.ErrFork, tree.N, err)
	}
	return edge, err
}

// recollect reads a file of what is remembered, whose version is then to be seen in version.
func (v *verifying) recollect(name string, into any, version *int) error {
	path, err := v.app.path(name)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return v.damaged(name, err)
	}
	if *version != verifiedVersion {
		return v.damaged(name, fmt.Errorf("version %d, want %d", *version, verifiedVersion))
	}
	return nil
}

func (v *verifying) damaged(name string, err error) error {
	if path, err := v.app.path(name); err == nil {
		name = path
	}
	return withHint(fmt.Errorf("%s, which says what was verified last, is of no use: %w", name, err), "verify the whole log, which writes it anew: sega audit verify")
}

// loadVerified reads what was remembered; the checkpoint in it must be of the pinned key.
func (v *verifying) loadVerified() (last verified, err error) {
	name := verifiedFile(v.saved().Origin)
	if err := v.recollect(name, &last, &last.V); errors.Is(err, fs.ErrNotExist) {
		return last, withHint(errors.New("this machine has not verified the log before"), "run: sega audit verify")
	} else if err != nil {
		return last, err
	}
	c, err := audit.OpenCheckpoint([]byte(last.Checkpoint), v.verifier)
	if err != nil {
		return last, v.damaged(name, errors.New(err.Error())) // no finding: the file is ours
	}
	last.tree = c.Tree
	return last, nil
}

// loadFailure reads when the whole log failed, nil where it has succeeded since.
func (v *verifying) loadFailure() (*time.Time, error) {
	var f failure
	if err := v.recollect(failedFile(v.saved().Origin), &f, &f.V); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return &f.Time, nil
}

// rememberFailure keeps that the whole log did not verify: what only the whole shows is not seen by --since-last.
func (v *verifying) rememberFailure() error {
	if v.out.Mode != modeWhole {
		return nil
	}
	data, err := json.MarshalIndent(failure{V: verifiedVersion, Time: v.start.UTC(), Found: v.out.Found}, "", "  ")
	if err != nil {
		return err
	}
	return v.app.writeFile(failedFile(v.saved().Origin), append(data, '\n'), 0o600)
}

// forgetFailure is called when the whole log, its recordings included, has been found sound and that is remembered.
func (v *verifying) forgetFailure() error {
	path, err := v.app.path(failedFile(v.saved().Origin))
	if err != nil {
		return err
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// recall puts the sessions that had not ended before what is read now.
func (v *verifying) recall() error {
	for _, o := range v.last.Sessions {
		e := o.Start
		e.Details = o.Details
		if err := v.found.add(-1, e); err != nil {
			return err
		}
		if o.Head != nil {
			s := v.found.of(e.SessionID)
			s.heads = append(s.heads, *o.Head)
		}
	}
	return nil
}

// remember keeps what was verified, for --since-last.
func (v *verifying) remember() error {
	next := verified{V: verifiedVersion, Time: v.start.UTC(), Whole: v.last.Whole, Checkpoint: string(v.signed), Sessions: []openSession{}}
	if v.out.Mode == modeWhole {
		next.Whole = next.Time
	}
	for _, id := range v.found.order {
		e := v.found.sessions[id]
		if !e.recorded() || e.end != nil {
			continue
		}
		o := openSession{Start: *e.start, Details: e.start.Details}
		for _, h := range e.heads {
			if o.Head == nil || h.Segments >= o.Head.Segments {
				o.Head = &h
			}
		}
		next.Sessions = append(next.Sessions, o)
	}
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := v.app.writeFile(verifiedFile(v.saved().Origin), append(data, '\n'), 0o600); err != nil || v.out.Mode != modeWhole {
		return err
	}
	return v.forgetFailure()
}

// tiles reads hash tiles of the log for one call of package tlog, which checks them.
type tiles struct {
	*session
	ctx context.Context // of the one call that it lives for
}

// Height implements tlog.TileReader.
func (tiles) Height() int { return audit.TileHeight }

// ReadTiles implements tlog.TileReader.
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(wanted))
	for i, tile := range wanted {
		var err error
		if out[i], err = t.Tile(t.ctx, audit.TilePath(tile)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// SaveTiles implements tlog.TileReader: nothing is kept, the edge of the next verification is another.
func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}
