package sqlite

import (
	"context"
	"errors"
	"sync/atomic"
)

// walLimit is the number of frames (pages) in the WAL from which on it is copied into the database
// (a checkpoint of SQLite): 32 MiB.
const walLimit = 8192

// A copy takes some ten ms. Where it comes after so many commits or more, the committer makes it itself:
// it delays fewer than one append in a hundred, and a copy beside the commits would slow many.
// Where large commits fill the WAL sooner, a goroutine makes it, and the committer only the rest.
const rareCommits = 128

// walHard is the number of frames from which on the committer waits for that goroutine.
const walHard = 4 * walLimit

// pageSize is SQLite's own default, in bytes.
const pageSize = 4096

// The WAL's length is asked for after so many commits or bytes of events, whichever come first: after each commit it took a
// tenth of what small ones take.
const (
	lookCommits = 8
	lookBytes   = 128 << 10
)

// smallWAL is the number of frames that are not worth a copy, however small the disk is.
const smallWAL = 128

// copier copies the WAL beside the committer, on a connection of its own.
type copier struct {
	l     *Log
	state atomic.Int32
	work  chan struct{} // closed by close
	ready chan struct{} // a word for each copy that has ended
	ended chan struct{} // closed when run has ended
}

// States of a copier.
const (
	idle    int32 = iota
	copying       // run has the word
	copied        // the committer is to copy the rest
)

func startCopier(l *Log) *copier {
	c := &copier{l: l, work: make(chan struct{}, 1), ready: make(chan struct{}, 1), ended: make(chan struct{})}
	go c.run()
	return c
}

// close ends the goroutine. Only the committer's owner calls it, when the committer has ended.
func (c *copier) close() {
	close(c.work)
	<-c.ended
}

func (c *copier) run() {
	defer close(c.ended)
	for range c.work {
		if err := c.copy(); err != nil {
			c.l.cfg.Log.Warn("audit store: checkpoint of the WAL beside the commits", "error", err)
		}
		c.state.Store(copied)
		c.ready <- struct{}{}
	}
}

// copy copies the WAL twice: what came while the first copy was made is little.
func (c *copier) copy() error {
	ctx := context.Background()
	conn, err := dial(ctx, c.l.cfg.Path)
	if err != nil {
		return err
	}
	s, err := prepare(ctx, conn, `PRAGMA wal_checkpoint(PASSIVE)`)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	for range 2 {
		if _, err = s.ints(3); err != nil {
			break
		}
	}
	return errors.Join(err, s.close(), conn.Close())
}

// tidy copies the WAL into the database where it has grown, on a small disk sooner: a WAL that
// takes the last space cannot be copied any more. The committer is the only writer, so its own copy is
// complete unless a reader still needs an older state, and the next commit starts the WAL from its
// beginning.
func (w *writer) tidy(c *copier) error {
	w.since++
	w.unlooked++
	if w.unlooked < lookCommits && w.unlookedBytes < lookBytes {
		return nil
	}
	w.unlooked, w.unlookedBytes = 0, 0
	frames, err := w.walFrames.ints(3)
	if err != nil || frames[1] < smallWAL {
		return err
	}
	n := frames[1]
	free, known := freeBytes(c.l.cfg.Path)
	scarce := known && n*pageSize >= free/2
	switch state := c.state.Load(); {
	case state == copied:
		<-c.ready
	case state == copying && (n >= walHard || scarce):
		<-c.ready
	case state == copying || n < walLimit && !scarce:
		return nil
	case !scarce && w.since < rareCommits:
		c.state.Store(copying)
		c.work <- struct{}{}
		return nil
	}
	c.state.Store(idle)
	w.since = 0
	_, err = w.checkpoint.ints(3)
	return err
}
