package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Reader returns a recording's bytes: its objects, as they are now, one after the other. It
// returns fs.ErrNotExist, wrapped, where there is nothing, and an error that names the first
// object which is missing.
func (d *Dir) Reader(ctx context.Context, sessionID string) (io.ReadCloser, error) {
	e, err := d.Extent(ctx, sessionID)
	if err != nil {
		return nil, err
	}
	if e.Objects == 0 {
		return nil, notExist(sessionID)
	}
	return &reader{ctx: ctx, dir: d, session: sessionID, count: e.Objects}, nil
}

// reader opens one object at a time.
type reader struct {
	ctx     context.Context
	dir     *Dir
	session string
	count   int
	next    int
	open    *os.File
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for {
		if r.ctx.Err() != nil {
			return 0, context.Cause(r.ctx)
		}
		if r.open == nil {
			if err := r.advance(); err != nil {
				return 0, err
			}
		}
		n, err := r.open.Read(p)
		if err != io.EOF {
			return n, err
		}
		if err := r.Close(); err != nil {
			return 0, err
		}
	}
}

func (r *reader) advance() (err error) {
	if r.next == r.count {
		return io.EOF
	}
	name := objectName(r.session, r.next)
	if r.open, err = r.dir.root.Open(name); err != nil {
		return errors.Join(fmt.Errorf("bucket: object %s cannot be opened", name), err)
	}
	r.next++
	return nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.open == nil {
		return nil
	}
	f := r.open
	r.open = nil
	return f.Close()
}
