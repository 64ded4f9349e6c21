package backend

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
)

// Known is what a process knows of the log in its database: the newest head that it has signed or
// seen, and whether the database was set back beneath it. The zero value knows the empty log.
type Known struct {
	head atomic.Pointer[Head]
	lost atomic.Pointer[error]
}

// Head returns the newest head; that of the empty log before there is any.
func (k *Known) Head() Head {
	if h := k.head.Load(); h != nil {
		return *h
	}
	return Head{Stamp: Unread}
}

// Signed is store.Log's Head.
func (k *Known) Signed() ([]byte, tlog.Tree) {
	h := k.Head()
	return bytes.Clone(h.Checkpoint), h.Tree
}

// Advance moves the head on, and never back: those who read heads may come with theirs in any order.
func (k *Known) Advance(h Head) {
	for {
		old := k.head.Load()
		if old != nil && h.Tree.N < old.Tree.N || k.head.CompareAndSwap(old, &h) {
			return
		}
	}
}

// Err returns the store.ErrSetBack that is kept, or nil.
func (k *Known) Err() error {
	if p := k.lost.Load(); p != nil {
		return *p
	}
	return nil
}

// Readable is Err as those who read get it.
func (k *Known) Readable() error {
	if err := k.Err(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnreadable, err)
	}
	return nil
}

// Lose keeps a store.ErrSetBack for as long as the process lives, and passes over any other error: what
// others append to the database meanwhile may look like a continuation again, and what was
// forgotten in between stays forgotten. It reports whether err is one.
func (k *Known) Lose(log *slog.Logger, err error) bool {
	if !errors.Is(err, store.ErrSetBack) {
		return false
	}
	if k.lost.CompareAndSwap(nil, &err) {
		log.Error("audit store: nothing is appended and nothing read until this process is started anew", "error", err)
	}
	return true
}

// CheckExtends reports as store.ErrSetBack that a tree is not a continuation of the one that is known. r
// reads the hashes that are stored with now.
func CheckExtends(known, now tlog.Tree, r tlog.HashReader) error {
	switch {
	case now == known || known.N == 0:
		return nil
	case now.N < known.N:
		return fmt.Errorf("%w: it has %d events, and %d were signed", store.ErrSetBack, now.N, known.N)
	}
	_, err := audit.LoadProvenFrontier(known, r)
	if errors.Is(err, audit.ErrFork) {
		return fmt.Errorf("%w: it has %d events, of which the first %d are not those that were signed", store.ErrSetBack, now.N, known.N)
	}
	return err
}
