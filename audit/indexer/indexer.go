package indexer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"sega/broker/api"
)

// Broker is the broker as an indexer needs it.
type Broker interface {
	// Sessions yields a page of sessions that ended after an index, in the order of their ends.
	Sessions(ctx context.Context, after int64) iter.Seq2[api.IndexSession, error]
	// Recording opens a session's recording.
	Recording(ctx context.Context, id string) (io.ReadCloser, error)
	// Searches gives questions to handle, one after the other, until it fails.
	Searches(ctx context.Context, handle func(api.IndexSearch) error) error
	// Hits answers one.
	Hits(ctx context.Context, hits api.IndexHits) error
}

// Config is all that an indexer needs.
type Config struct {
	Broker     Broker
	Index      *Index
	Identities []age.Identity // of a recipient
	Spool      string         // folder for the ciphertext of the recording at work; what lies there is removed
	Poll       time.Duration  // how often the broker is asked for ended sessions; 0: a second
	MaxText    int64          // bytes of text that are kept of one session; 0: 32 MiB
	MaxWork    int64          // units of drawing that one session may cost (screen.LinesWithin); 0: 16 Gi
	Now        func() time.Time
	Log        *slog.Logger
}

const (
	defaultPoll = time.Second
	maxTries    = 20 // of a recording that cannot be had: about half a day
	firstRetry  = 10 * time.Second
	lastRetry   = time.Hour
	dueAtOnce   = 50
	maxPause    = 30 * time.Second // while the broker does not answer
)

// Indexer keeps an index up to date and answers searches.
type Indexer struct {
	Config
	kick chan struct{} // of capacity 1: look at once

	mu    sync.Mutex
	upTo  int64
	moved chan struct{} // closed and replaced when upTo moves
}

// New checks the configuration.
func New(ctx context.Context, c Config) (*Indexer, error) {
	if c.Broker == nil || c.Index == nil || c.Now == nil || c.Log == nil || c.Spool == "" {
		return nil, errors.New("indexer: broker, index, spool, clock and logger are needed")
	}
	if len(c.Identities) == 0 {
		return nil, errors.New("indexer: an age identity of a recipient is needed")
	}
	if c.Poll <= 0 {
		c.Poll = defaultPoll
	}
	if c.MaxText <= 0 {
		c.MaxText = defaultText
	}
	if c.MaxWork <= 0 {
		c.MaxWork = defaultWork
	}
	upTo, err := c.Index.Mark(ctx)
	if err != nil {
		return nil, err
	}
	// What a killed indexer left is ciphertext, and fetched again.
	if err := errors.Join(os.RemoveAll(c.Spool), os.MkdirAll(c.Spool, 0o700)); err != nil {
		return nil, fmt.Errorf("indexer: spool: %w", err)
	}
	return &Indexer{Config: c, kick: make(chan struct{}, 1), upTo: upTo, moved: make(chan struct{})}, nil
}

// Run indexes and answers until ctx ends.
func (x *Indexer) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return x.follow(ctx) })
	group.Go(func() error { return x.answer(ctx) })
	return group.Wait()
}

// follow looks for sessions that have ended, and for those that wait, until ctx ends. While it
// fails it looks less often.
func (x *Indexer) follow(ctx context.Context) error {
	pause := x.Poll
	for ctx.Err() == nil {
		err := x.look(ctx)
		if err == nil {
			pause = x.Poll
		} else if ctx.Err() == nil {
			x.Log.Warn("indexing waits", "error", err)
			pause = min(2*pause, max(maxPause, x.Poll))
		}
		select {
		case <-ctx.Done():
		case <-x.kick:
		case <-time.After(pause):
		}
	}
	return nil
}

// look indexes every session that has ended since, then tries those that are due.
func (x *Indexer) look(ctx context.Context) error {
	for {
		page, err := x.page(ctx)
		if err != nil {
			return err
		}
		for _, s := range page {
			if err := x.next(ctx, s); err != nil {
				return err
			}
		}
		if len(page) == 0 {
			break
		}
	}
	due, err := x.Index.Due(ctx, x.Now(), dueAtOnce)
	for _, e := range due {
		if err == nil {
			err = x.index(ctx, e)
		}
	}
	return err
}

// next indexes a session that has ended, unless that is done, and moves on.
func (x *Indexer) next(ctx context.Context, s api.IndexSession) error {
	e := Entry{Session: s, ID: s.SessionID, Index: s.Index}
	done, err := x.Index.Has(ctx, e.ID)
	switch {
	case err != nil:
		return err
	case done: // its end came twice, or the log is read anew: only the mark moves
		err = x.Index.Put(ctx, e, nil)
	default:
		err = x.index(ctx, e)
	}
	if err == nil {
		x.move(s.Index)
	}
	return err
}

// page asks for what comes next. It is read whole before work begins: the broker waits for no one.
func (x *Indexer) page(ctx context.Context) ([]api.IndexSession, error) {
	var page []api.IndexSession
	for s, err := range x.Broker.Sessions(ctx, x.mark()) {
		if err != nil {
			return nil, err
		}
		page = append(page, s)
	}
	return page, nil
}

// index fetches, judges and stores one session. The error says that nothing was stored, and that
// the same would happen to the next one.
func (x *Indexer) index(ctx context.Context, e Entry) error {
	found, err := x.find(ctx, e.Session)
	if err != nil {
		return err
	}
	e.Tries++
	e.Verdict, e.Detail, e.Next = found.verdict, found.detail, time.Time{}
	var pieces []string
	switch {
	case found.text != nil:
		e.State, e.Lines, e.Bytes, e.Cut = Indexed, found.text.lines, found.text.bytes, found.text.cut
		pieces = found.text.pieces
	case found.later && e.Tries < maxTries:
		e.State, e.Next = Waiting, x.Now().Add(min(firstRetry<<min(e.Tries-1, 20), lastRetry))
	default:
		e.State = Skipped
	}
	if err := x.Index.Put(ctx, e, pieces); err != nil {
		return err
	}
	level := slog.LevelInfo
	if e.State == Skipped || e.Cut {
		level = slog.LevelWarn
	}
	x.Log.Log(ctx, level, "session", "session", e.ID, "state", e.State, "verdict", e.Verdict, "detail", e.Detail, "lines", e.Lines, "bytes", e.Bytes, "cut", e.Cut)
	return nil
}

// find returns what becomes of a session's recording. The error is of the connection or of the
// machine's own disk.
func (x *Indexer) find(ctx context.Context, s api.IndexSession) (finding, error) {
	c, err := parseClaim(s)
	if err != nil {
		return finding{verdict: VerdictUnannounced, detail: err.Error()}, nil
	}
	in, err := x.Broker.Recording(ctx, s.SessionID)
	if found, known := refused(err); known {
		return found, nil
	}
	if err != nil {
		return finding{}, err
	}
	defer func() { _ = in.Close() }()
	f, err := os.CreateTemp(x.Spool, "recording-*")
	if err != nil {
		return finding{}, err
	}
	defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }()
	most := c.end.Head.Bytes + c.end.TailBytes
	if err := fetch(f, in, most); err != nil {
		var disk *os.PathError
		switch {
		case errors.Is(err, syscall.ENOSPC): // others may fit
			return finding{verdict: VerdictUnavailable, detail: fmt.Sprintf("its %d bytes do not fit on the indexer's disk", most), later: true}, nil
		case ctx.Err() != nil || errors.As(err, &disk):
			return finding{}, err
		}
		// One that always breaks off must not hold up the others.
		return finding{verdict: VerdictUnavailable, detail: "it broke off: " + err.Error(), later: true}, nil
	}
	return judge(ctx, f, c, x.Identities, x.MaxText, x.MaxWork)
}

// refused tells what is this recording's own trouble from that of the connection.
func refused(err error) (found finding, known bool) {
	switch {
	case api.IsKind(err, api.KindDenied), api.IsKind(err, api.KindMFA), api.IsKind(err, api.KindStepUp): // a machine has no factor to show
		return finding{verdict: VerdictDenied, detail: err.Error()}, true
	case api.IsKind(err, api.KindNotFound), api.IsKind(err, api.KindInternal), api.IsKind(err, api.KindInvalid), api.IsKind(err, api.KindConflict):
		return finding{verdict: VerdictUnavailable, detail: err.Error(), later: true}, true
	}
	return finding{}, false
}

// fetch copies a recording to the spool and goes back to its beginning. Of one that is longer than the
// most that the log knows of it, a byte more is enough to judge it by.
func fetch(f *os.File, in io.Reader, most int64) error {
	if _, err := io.Copy(f, io.LimitReader(in, most+1)); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

func (x *Indexer) mark() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.upTo
}

func (x *Indexer) move(upTo int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if upTo > x.upTo {
		x.upTo = upTo
		close(x.moved)
		x.moved = make(chan struct{})
	}
}

// progress returns the mark, and a channel that is closed when it moves.
func (x *Indexer) progress() (upTo int64, moved <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.upTo, x.moved
}
