package store

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
)

// ErrSetBack, beside ErrUnavailable or ErrUnreadable in one error, means that the database no longer
// holds the log that this process has signed or seen: it was restored, or failed over to a standby that
// was behind. Nothing is appended and nothing read until the process is started anew (design R10).
var ErrSetBack = errors.New("audit store: the database was set back beneath this process")

// CheckExtends reports as ErrSetBack that a tree is not a continuation of the one that is known. r
// reads the hashes that are stored with now.
func CheckExtends(known, now tlog.Tree, r tlog.HashReader) error {
	switch {
	case now == known || known.N == 0:
		return nil
	case now.N < known.N:
		return fmt.Errorf("%w: it has %d events, and %d were signed", ErrSetBack, now.N, known.N)
	}
	_, err := audit.LoadProvenFrontier(known, r)
	if errors.Is(err, audit.ErrFork) {
		return fmt.Errorf("%w: it has %d events, of which the first %d are not those that were signed", ErrSetBack, now.N, known.N)
	}
	return err
}

// Latch keeps an ErrSetBack for as long as the process lives: what others append to the database
// meanwhile may look like a continuation again, and what was forgotten in between stays forgotten.
type Latch struct{ err atomic.Pointer[error] }

// Err returns what is kept, or nil.
func (l *Latch) Err() error {
	if p := l.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Keep keeps an ErrSetBack, and reports whether it is the first. It passes over any other error.
func (l *Latch) Keep(err error) (first bool) {
	return errors.Is(err, ErrSetBack) && l.err.CompareAndSwap(nil, &err)
}
