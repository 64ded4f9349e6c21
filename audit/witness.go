package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// What a witness may find.
var (
	ErrRollback   = errors.New("audit log went back: it no longer holds what it has signed before")
	ErrFork       = errors.New("audit log was forked or rewritten: two signed checkpoints contradict each other")
	ErrNoSuchSize = errors.New("audit log has no tree of that size")
	ErrUnproven   = errors.New("audit log's new checkpoint could not be proven to extend the one seen before")
)

// WitnessConfig is what a Witness needs.
type WitnessConfig struct {
	Verifier note.Verifier // the log's pinned key
	Latest   []byte        // the signed checkpoint remembered from before, or empty
	// Prove asks the log for the consistency proof between two sizes, from ≤ to. From a size of 0
	// the proof is empty. Where the log itself says that it has not as many as to, the error wraps
	// ErrNoSuchSize; any other error says nothing about the log.
	Prove func(ctx context.Context, from, to int64) (tlog.TreeProof, error)
	// Remember keeps a checkpoint for the next start. Calls come one at a time, in growing sizes.
	Remember func(checkpoint []byte) error
}

// Witness keeps the latest checkpoint of a log and holds every other against it (design R9, R10).
// It is safe for concurrent use.
type Witness struct {
	cfg WitnessConfig

	mu     sync.Mutex
	latest seen
}

// seen is a verified checkpoint and the bytes that were signed; msg is nil before the first.
type seen struct {
	msg  []byte
	tree tlog.Tree
}

// NewWitness opens the remembered checkpoint, which must be of the pinned key.
func NewWitness(cfg WitnessConfig) (*Witness, error) {
	if cfg.Verifier == nil || cfg.Prove == nil || cfg.Remember == nil {
		return nil, errors.New("audit: witness: Verifier, Prove and Remember are needed")
	}
	w := &Witness{cfg: cfg}
	if len(cfg.Latest) > 0 {
		c, err := OpenCheckpoint(cfg.Latest, cfg.Verifier)
		if err != nil {
			return nil, fmt.Errorf("remembered checkpoint: %w", err)
		}
		w.latest = seen{msg: bytes.Clone(cfg.Latest), tree: c.Tree}
	}
	return w, nil
}

// Latest returns the latest checkpoint: its signed bytes, nil where there is none yet, and its tree.
func (w *Witness) Latest() ([]byte, tlog.Tree) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.latest.msg), w.latest.tree
}

// Observe takes a signed checkpoint. One that extends the latest is proven, remembered and becomes
// the latest; one that is older and a proven prefix (a late answer) changes nothing. Errors wrap
// ErrCheckpoint (signature or form), ErrRollback, ErrFork or ErrUnproven; nothing is remembered then.
func (w *Witness) Observe(ctx context.Context, msg []byte) error {
	c, err := OpenCheckpoint(msg, w.cfg.Verifier)
	if err != nil {
		return err
	}
	for {
		latest := w.current()
		switch {
		case latest.msg == nil:
		case c.Tree.N == latest.tree.N:
			if c.Tree.Hash != latest.tree.Hash {
				return fmt.Errorf("%w: %d events have the roots %s and %s", ErrFork, c.Tree.N, latest.tree.Hash, c.Tree.Hash)
			}
			return nil
		case c.Tree.N < latest.tree.N:
			return w.checkOlder(ctx, c.Tree, latest.tree)
		default:
			if err := w.checkNewer(ctx, latest.tree, c.Tree); err != nil {
				return err
			}
		}
		if done, err := w.replace(latest, seen{msg: bytes.Clone(msg), tree: c.Tree}); done {
			return err
		}
	}
}

func (w *Witness) current() seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest
}

// replace remembers next where the latest is still what next was held against; otherwise another
// call was faster, and the caller must compare again.
func (w *Witness) replace(old, next seen) (done bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.latest.tree != old.tree || (w.latest.msg == nil) != (old.msg == nil) {
		return false, nil
	}
	if err := w.cfg.Remember(next.msg); err != nil {
		return true, fmt.Errorf("audit: remember checkpoint of %d events: %w", next.tree.N, err)
	}
	w.latest = next
	return true, nil
}

func (w *Witness) checkNewer(ctx context.Context, old, next tlog.Tree) error {
	proof, err := w.cfg.Prove(ctx, old.N, next.N)
	if err != nil {
		return fmt.Errorf("%w (%d to %d events): %w", ErrUnproven, old.N, next.N, err)
	}
	if err := CheckConsistency(proof, old, next); err != nil {
		return fmt.Errorf("%w: %d events do not extend the %d seen before: %w", ErrFork, next.N, old.N, err)
	}
	return nil
}

// checkOlder lets a late answer pass. A log that was set back does not have the size that it has
// signed before: that it says so is the alarm. That it could not be asked is none.
func (w *Witness) checkOlder(ctx context.Context, older, latest tlog.Tree) error {
	proof, err := w.cfg.Prove(ctx, older.N, latest.N)
	switch {
	case errors.Is(err, ErrNoSuchSize):
		return fmt.Errorf("%w: %d events were seen, now it signs %d: %w", ErrRollback, latest.N, older.N, err)
	case err != nil:
		return fmt.Errorf("%w (%d to %d events): %w", ErrUnproven, older.N, latest.N, err)
	}
	if err := CheckConsistency(proof, older, latest); err != nil {
		return fmt.Errorf("%w: %d events were seen, the %d that it signs now are not their beginning: %w", ErrRollback, latest.N, older.N, err)
	}
	return nil
}
