package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ErrRange means that a recording is shorter than where reading was to begin. It is an fs.ErrInvalid.
var ErrRange = fmt.Errorf("bucket: the recording is shorter than that: %w", fs.ErrInvalid)

// Extent is how much of a recording a bucket holds.
type Extent struct {
	Objects int
	Bytes   int64
}

// objects is what the parts that all buckets share need of one.
type objects interface {
	// sizes returns the sizes of a session's objects by number, none where there is nothing, and an
	// error that names the first number which is missing.
	sizes(ctx context.Context, sessionID string) ([]int64, error)
	// open opens an object from a byte on; fs.ErrNotExist, wrapped, where there is none.
	open(ctx context.Context, sessionID string, seq int, from int64) (io.ReadCloser, error)
}

func extent(ctx context.Context, o objects, sessionID string) (Extent, error) {
	if err := checkSession(sessionID); err != nil {
		return Extent{}, err
	}
	if ctx.Err() != nil {
		return Extent{}, context.Cause(ctx)
	}
	sizes, err := o.sizes(ctx, sessionID)
	e := Extent{Objects: len(sizes)}
	for _, n := range sizes {
		e.Bytes += n
	}
	return e, err
}

func size(ctx context.Context, o objects, sessionID string) (int64, error) {
	e, err := extent(ctx, o, sessionID)
	if err == nil && e.Objects == 0 {
		err = notExist(sessionID)
	}
	return e.Bytes, err
}

func notExist(sessionID string) error {
	return fmt.Errorf("bucket: recording %s: %w", sessionID, fs.ErrNotExist)
}

// newReader returns the bytes of a recording from a byte on. After io.EOF it may be read again: it
// then goes on with objects that have come since.
func newReader(ctx context.Context, o objects, sessionID string, from int64) (io.ReadCloser, error) {
	if err := checkSession(sessionID); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	sizes, err := o.sizes(ctx, sessionID)
	if err != nil {
		return nil, err
	}
	if len(sizes) == 0 {
		return nil, notExist(sessionID)
	}
	r := &reader{ctx: ctx, objects: o, session: sessionID, listed: len(sizes), skip: from}
	for r.next < r.listed && r.skip >= sizes[r.next] {
		r.skip -= sizes[r.next]
		r.next++
	}
	if from < 0 || r.next == r.listed && r.skip > 0 {
		return nil, fmt.Errorf("%w: byte %d of %s", ErrRange, from, sessionID)
	}
	return r, nil
}

// reader opens one object at a time.
type reader struct {
	ctx     context.Context
	objects objects
	session string
	listed  int // objects that were there: missing ones are an error, not the end
	next    int
	skip    int64 // bytes of the next object
	now     io.ReadCloser
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for {
		if r.ctx.Err() != nil {
			return 0, context.Cause(r.ctx)
		}
		if r.now == nil {
			if err := r.advance(); err != nil {
				return 0, err
			}
		}
		n, err := r.now.Read(p)
		if err == io.EOF {
			err = r.Close()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (r *reader) advance() error {
	now, err := r.objects.open(r.ctx, r.session, r.next, r.skip)
	if errors.Is(err, fs.ErrNotExist) && r.next >= r.listed {
		return io.EOF
	}
	if err != nil {
		return fmt.Errorf("bucket: object %s cannot be opened: %w", objectName(r.session, r.next), err)
	}
	r.now, r.skip = now, 0
	r.next++
	return nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.now == nil {
		return nil
	}
	now := r.now
	r.now = nil
	return now.Close()
}

// counter takes the names of a session's objects in order and finds the number that is missing.
type counter struct {
	session string
	sizes   []int64
}

func (c *counter) add(name string, size int64) error {
	if want := objectName(c.session, len(c.sizes)); c.session+"/"+name != want {
		return fmt.Errorf("bucket: object %s is missing", want)
	}
	c.sizes = append(c.sizes, size)
	return nil
}

// same compares what is in a bucket with what was to be put there.
func same(there io.Reader, data *io.SectionReader) error {
	want := io.NewSectionReader(data, 0, data.Size())
	a, b := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		n, err := io.ReadFull(want, a)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		m, otherErr := io.ReadFull(there, b)
		if otherErr != nil && otherErr != io.EOF && otherErr != io.ErrUnexpectedEOF {
			return otherErr
		}
		if n != m || string(a[:n]) != string(b[:m]) {
			return fmt.Errorf("%w than the %d given", ErrConflict, data.Size())
		}
		if err != nil {
			return nil
		}
	}
}
