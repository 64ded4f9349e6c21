package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Store is what an Uploader needs of a bucket. Dir and Cloud are two.
type Store interface {
	// Put makes an object durable; the same bytes again are no error, others are ErrConflict.
	Put(ctx context.Context, sessionID string, seq int, data *io.SectionReader) error
	// Extent returns how much of a session is there, zeroes for nothing.
	Extent(ctx context.Context, sessionID string) (Extent, error)
	// Reader returns a session's bytes from one on, fs.ErrNotExist, wrapped, where there is nothing.
	Reader(ctx context.Context, sessionID string, from int64) (io.ReadCloser, error)
}

const (
	defaultInterval = 2 * time.Second
	defaultObject   = 8 << 20

	flowObjects = 8 // a spool that grows by more than so many objects in an interval is in full flow
	flowTime    = 10 * time.Second
)

// UploaderConfig is what NewUploader needs.
type UploaderConfig struct {
	Store     Store
	Spool     string // path
	SessionID string
	Interval  time.Duration // of Run; 0 for 2 s
	MaxObject int           // bytes; 0 for 8 MiB
	OnError   func(error)   // is told of each failure that Run will repeat; may be nil
}

// Uploader copies a spool into a bucket as it grows. Its methods may be called concurrently.
//
// Others may write to a bucket, too. What the uploader did not put itself it compares with the spool,
// byte by byte, before it counts as uploaded; after ErrConflict it uploads nothing more.
type Uploader struct {
	cfg UploaderConfig

	mu       sync.Mutex
	known    bool   // whether done is all that the bucket has
	done     Extent // what the bucket has, and the spool too
	conflict error  // an ErrConflict, which stays
}

// NewUploader checks cfg. The spool need not exist yet.
func NewUploader(cfg UploaderConfig) (*Uploader, error) {
	if cfg.Store == nil || cfg.Spool == "" {
		return nil, errors.New("bucket: an uploader needs a store and a spool")
	}
	if err := checkSession(cfg.SessionID); err != nil {
		return nil, err
	}
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.MaxObject <= 0 {
		cfg.MaxObject = defaultObject
	}
	return &Uploader{cfg: cfg}, nil
}

// Upload brings the spool's first upTo bytes into the bucket, apart from what is there already,
// also by an earlier process. upTo must lie behind a seal or at the spool's final end: what has
// been uploaded is never changed. After an error it can be called again; where the bucket holds
// other bytes than the spool it returns ErrConflict, now and for good.
func (u *Uploader) Upload(ctx context.Context, upTo int64) error {
	return u.work(func(f *os.File, size int64) error {
		if err := u.learn(ctx, f, size); err != nil || upTo <= u.done.Bytes {
			return err
		}
		if size < upTo {
			return fmt.Errorf("bucket: read spool: it has %d bytes, and %d are to be uploaded: %w", size, upTo, io.ErrUnexpectedEOF)
		}
		for u.done.Bytes < upTo {
			if err := u.copyObject(ctx, f, min(upTo-u.done.Bytes, int64(u.cfg.MaxObject))); err != nil {
				return err
			}
		}
		return nil
	})
}

// Compare reads what the bucket has of the session and returns nil where it is the whole spool and
// nothing else, else ErrConflict. It is for those who then remove the spool.
func (u *Uploader) Compare(ctx context.Context) error {
	return u.work(func(f *os.File, size int64) error {
		r, err := u.cfg.Store.Reader(ctx, u.cfg.SessionID, 0)
		switch {
		case errors.Is(err, fs.ErrNotExist) && size == 0:
			return nil
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: it has nothing of %s: %w", ErrConflict, u.cfg.SessionID, err)
		case err != nil:
			return err
		}
		return errors.Join(same(r, io.NewSectionReader(f, 0, size)), r.Close())
	})
}

// work hands the spool and its size to f, one caller after the other, until there is a conflict.
func (u *Uploader) work(do func(f *os.File, size int64) error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conflict != nil {
		return u.conflict
	}
	f, err := os.Open(u.cfg.Spool)
	if err != nil {
		return fmt.Errorf("bucket: upload: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("bucket: upload: %w", err)
	}
	if err = do(f, info.Size()); errors.Is(err, ErrConflict) {
		u.conflict = err
	}
	return err
}

// learn asks the bucket what it has, and compares what is new to us with the spool.
func (u *Uploader) learn(ctx context.Context, f *os.File, size int64) error {
	if u.known {
		return nil
	}
	there, err := u.cfg.Store.Extent(ctx, u.cfg.SessionID)
	if err != nil {
		return err
	}
	switch {
	case there.Objects < u.done.Objects || there.Bytes < u.done.Bytes:
		return fmt.Errorf("%w: it has %d bytes of %s, and had %d", ErrConflict, there.Bytes, u.cfg.SessionID, u.done.Bytes)
	case there.Bytes > size:
		return fmt.Errorf("%w: it has %d bytes of %s, and the spool %d", ErrConflict, there.Bytes, u.cfg.SessionID, size)
	case there.Bytes > u.done.Bytes:
		if err := u.compare(ctx, f, u.done.Bytes, there.Bytes); err != nil {
			return err
		}
	}
	u.done, u.known = there, true
	return nil
}

// compare holds bytes of the bucket against those of the spool.
func (u *Uploader) compare(ctx context.Context, f *os.File, from, to int64) error {
	r, err := u.cfg.Store.Reader(ctx, u.cfg.SessionID, from)
	if err != nil {
		return err
	}
	return errors.Join(same(io.LimitReader(r, to-from), io.NewSectionReader(f, from, to-from)), r.Close())
}

// copyObject uploads the next n bytes, by a reader of the file: no object is held in our memory whole.
func (u *Uploader) copyObject(ctx context.Context, f *os.File, n int64) error {
	if err := u.cfg.Store.Put(ctx, u.cfg.SessionID, u.done.Objects, io.NewSectionReader(f, u.done.Bytes, n)); err != nil {
		u.known = false // the object may be there all the same: ask anew
		return err
	}
	u.done.Objects++
	u.done.Bytes += n
	return nil
}

// Run uploads what upTo reports, at each interval, until ctx ends; it then returns nil. What is in full flow is put off
// until it rests, for ten seconds at most. A failure
// is told to OnError and tried again at the next interval, but for ErrConflict, which is returned.
// The last of the spool is left to a call of Upload.
func (u *Uploader) Run(ctx context.Context, upTo func() int64) error {
	tick := time.NewTicker(u.cfg.Interval)
	defer tick.Stop()
	flow := flow{interval: u.cfg.Interval, fast: flowObjects * int64(u.cfg.MaxObject)}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		to := upTo()
		if flow.holds(to) {
			continue
		}
		err := u.Upload(ctx, to)
		if errors.Is(err, ErrConflict) {
			return err
		}
		if err != nil && ctx.Err() == nil && u.cfg.OnError != nil {
			u.cfg.OnError(err)
		}
	}
}

// flow knows whether a spool is in full flow. Its copy would take processors and disk from the very stream that fills it.
type flow struct {
	interval time.Duration // between two looks
	fast     int64         // bytes in it

	last int64         // what the last look saw
	held time.Duration // how long the upload has been put off
}

// holds reports whether what is there, upTo, can wait for another interval.
func (f *flow) holds(upTo int64) bool {
	grown := upTo - f.last
	f.last = upTo
	if grown <= f.fast || f.held+2*f.interval > flowTime { // it would be an interval older at the next look
		f.held = 0
		return false
	}
	f.held += f.interval
	return true
}
