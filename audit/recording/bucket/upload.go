package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Store is what an Uploader needs of a bucket. Dir and Cloud are two.
type Store interface {
	// Put makes an object durable; the same bytes again are no error, others are ErrConflict. It may
	// move the offset of the file behind data.
	Put(ctx context.Context, sessionID string, seq int, data *io.SectionReader) error
	// Extent returns how much of a session is there, zeroes for nothing.
	Extent(ctx context.Context, sessionID string) (Extent, error)
}

const (
	defaultInterval = 2 * time.Second
	defaultObject   = 8 << 20
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
type Uploader struct {
	cfg UploaderConfig

	mu    sync.Mutex
	known bool   // whether done is
	done  Extent // what the bucket has
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
// been uploaded is never changed. After an error it can be called again.
func (u *Uploader) Upload(ctx context.Context, upTo int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.learn(ctx); err != nil {
		return err
	}
	if upTo <= u.done.Bytes {
		return nil
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
	if info.Size() < upTo {
		return fmt.Errorf("bucket: read spool: it has %d bytes, and %d are to be uploaded: %w", info.Size(), upTo, io.ErrUnexpectedEOF)
	}
	for u.done.Bytes < upTo {
		if err := u.copyObject(ctx, f, min(upTo-u.done.Bytes, int64(u.cfg.MaxObject))); err != nil {
			return err
		}
	}
	return nil
}

// learn asks the bucket once what it has, and requires that the spool is not shorter.
func (u *Uploader) learn(ctx context.Context) error {
	if u.known {
		return nil
	}
	done, err := u.cfg.Store.Extent(ctx, u.cfg.SessionID)
	if err != nil {
		return err
	}
	if done.Bytes > 0 {
		info, err := os.Stat(u.cfg.Spool)
		if err != nil {
			return fmt.Errorf("bucket: upload: %w", err)
		}
		if info.Size() < done.Bytes {
			return fmt.Errorf("%w: it has %d bytes of %s, and the spool %d", ErrConflict, done.Bytes, u.cfg.SessionID, info.Size())
		}
	}
	u.done, u.known = done, true
	return nil
}

// copyObject uploads the next n bytes, by a reader of the file: what need not pass through our
// memory does not.
func (u *Uploader) copyObject(ctx context.Context, f *os.File, n int64) error {
	if err := u.cfg.Store.Put(ctx, u.cfg.SessionID, u.done.Objects, io.NewSectionReader(f, u.done.Bytes, n)); err != nil {
		u.known = false // the object may be there all the same: ask anew
		return err
	}
	u.done.Objects++
	u.done.Bytes += n
	return nil
}

// Run uploads what upTo reports, at each interval, until ctx ends; it then returns nil. A failure
// is told to OnError and tried again at the next interval. The last of the spool is left to a
// call of Upload.
func (u *Uploader) Run(ctx context.Context, upTo func() int64) error {
	tick := time.NewTicker(u.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := u.Upload(ctx, upTo())
		if err != nil && ctx.Err() == nil && u.cfg.OnError != nil {
			u.cfg.OnError(err)
		}
	}
}
