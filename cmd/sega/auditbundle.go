package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
)

// maxEvidence bounds what is read of a bundle's file, and of a key's.
const maxEvidence = 4 << 20

// provenBundle is what `audit verify BUNDLE --json` prints of each bundle.
type provenBundle struct {
	File    string        `json:"file"`
	OK      bool          `json:"ok"`
	Finding audit.Finding `json:"finding,omitempty"`
	What    string        `json:"what,omitempty"` // is wrong
	Origin  string        `json:"origin,omitempty"`
	Index   int64         `json:"idx"`
	Size    int64         `json:"size,omitempty"` // of the tree that is signed
	Root    string        `json:"root,omitempty"`
	Event   *audit.Event  `json:"event,omitempty"`
	Details string        `json:"details,omitempty"` // "proven", "left out" or "none"
	// Witnessed says that this machine itself has seen the very checkpoint.
	Witnessed bool `json:"witnessed"`
}

// verifyBundles judges files of `audit prove` with the log's public key alone: no broker, no network.
func (a *app) verifyBundles(paths []string, o verifyOptions) error {
	key, err := a.bundleKey(o.key)
	if err != nil {
		return err
	}
	bad := 0
	for _, path := range paths {
		v, err := a.verifyBundle(path, key)
		if err != nil {
			return err
		}
		if !v.OK {
			bad++
		}
		if err := v.print(a.out, a.json); err != nil {
			return err
		}
	}
	if bad > 0 {
		return withKind(kindUnverified, withHint(fmt.Errorf("%d of %d bundles do not verify", bad, len(paths)), "what they claim is not proven; ask whoever gave them to you for the original files"))
	}
	return nil
}

// bundleKey is the key that was given, as text or in a file, or the pinned one.
func (a *app) bundleKey(arg string) (string, error) {
	key := arg
	switch {
	case arg == "":
		p, err := a.pinned()
		if errors.Is(err, fs.ErrNotExist) || err == nil && p.Configuration.LogKey == "" {
			return "", usagef("no key of a log is pinned on this machine: give the public key of the bundle's log with --key")
		}
		if err != nil {
			return "", err
		}
		key = p.Configuration.LogKey
	case strings.Count(arg, "+") < 2:
		data, err := readEvidence(arg)
		if err != nil {
			return "", fmt.Errorf("--key: %w", err)
		}
		key = strings.TrimSpace(string(data))
	}
	if _, err := note.NewVerifier(key); err != nil {
		return "", usagef("--key is not the public key of a log: want origin+hash+key, as log_key stands in the broker's /.well-known/sega-configuration")
	}
	return key, nil
}

func readEvidence(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxEvidence))
}

// verifyBundle judges one file; the error is about reading it.
func (a *app) verifyBundle(path, key string) (provenBundle, error) {
	out := provenBundle{File: path, Index: -1}
	data, err := readEvidence(path)
	if err != nil {
		return out, err
	}
	b, err := audit.ParseBundle(data)
	if err != nil {
		return out.refused(err), nil
	}
	p, err := b.Verify(key)
	if err != nil {
		return out.refused(err), nil
	}
	if out.Witnessed, err = a.witnessed(key, p.Checkpoint.Tree); err != nil {
		return out.refused(err), nil
	}
	out.OK, out.Origin, out.Index, out.Size, out.Root, out.Event = true, p.Checkpoint.Origin, p.Index, p.Checkpoint.Tree.N, p.Checkpoint.Tree.Hash.String(), &p.Event
	switch {
	case p.Event.DetailsDigest == "":
		out.Details = "none"
	case len(p.Event.Details) > 0:
		out.Details = "proven"
	default:
		out.Details = "left out"
	}
	return out, nil
}

func (v provenBundle) refused(err error) provenBundle {
	v.Finding, v.What = audit.FindingOf(err), err.Error()
	return v
}

// witnessed holds the bundle's tree against what this machine remembers of the same log, where it
// is of the same size: without the log, that is all that can be compared.
func (a *app) witnessed(key string, tree tlog.Tree) (bool, error) {
	p, err := a.pinned()
	if err != nil || p.Configuration.LogKey != key {
		return false, nil
	}
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return false, err
	}
	path, err := a.path(checkpointFile(p.Configuration.Origin))
	if err != nil {
		return false, err
	}
	msg, err := os.ReadFile(path)
	if err != nil {
		return false, nil // nothing is remembered
	}
	seen, err := audit.OpenCheckpoint(msg, verifier)
	if err != nil || seen.Tree.N != tree.N {
		return false, nil
	}
	if seen.Tree.Hash != tree.Hash {
		return false, fmt.Errorf("%w: this machine has seen %d events with the root %s, the bundle is of a history with %s", audit.ErrFork, tree.N, seen.Tree.Hash, tree.Hash)
	}
	return true, nil
}

func (v provenBundle) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return writeJSON(w, v)
	}
	if !v.OK {
		_, err := fmt.Fprintf(w, "BAD  %s: %s: %s\n", escape(v.File), v.Finding, escape(v.What))
		return err
	}
	e := v.Event
	seen := "this machine remembers no checkpoint of that size: compare it with somebody who follows the log"
	if v.Witnessed {
		seen = "it is the one that this machine remembers"
	}
	rows := [][]string{{"event", e.ID}, {"time", e.Time.Format("2006-01-02T15:04:05.999999999Z07:00")}, {"kind", e.Kind + " " + string(e.Outcome)}, {"actor", strings.TrimSpace(actorName(e.Actor) + " " + e.Actor.Sub + " " + e.Actor.Iss)},
		{"resource", e.Resource}, {"reason", e.Reason}, {"source", e.Source}, {"details", v.Details}}
	if v.Details == "proven" {
		rows = append(rows, []string{"", string(e.Details)})
	}
	if err := table(w, []string{"ok", v.File}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "proven      event %d, with exactly these bytes, is in the history of %d events that the key of %s has signed\n            root %s; %s\n"+
		"not proven  that what the event says is so, that everybody is shown the same history, anything about other events\n", v.Index, v.Size, escape(v.Origin), v.Root, seen)
	return err
}
