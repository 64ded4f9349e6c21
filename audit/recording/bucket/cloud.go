package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// maxCloud bounds an object: a put of up to 16 MiB is one request, which the storage refuses where
// the name is taken. A larger one would go in parts.
const maxCloud = 16<<20 - 1

// putTime is how long a put may take: one that hangs must not hold up those behind it for ever.
const putTime = 2 * time.Minute

// Cloud is a bucket in an object storage: object N of a session is PREFIX/SESSION/N with eight
// digits. Puts are conditional, so the storage must know If-None-Match, as S3 does; several
// processes may use one. A put of the client that answers is durable: that is the storage's promise.
type Cloud struct {
	bucket *blob.Bucket
	prefix string // "" or with a slash at its end
}

// NewCloud keeps recordings in b, whose Close is the caller's, under a prefix like "sega/recordings", or "".
func NewCloud(b *blob.Bucket, prefix string) *Cloud {
	if prefix = strings.Trim(path.Clean("/"+prefix), "/"); prefix != "" {
		prefix += "/"
	}
	return &Cloud{bucket: b, prefix: prefix}
}

// Put implements Store. Where the name is taken, what is there is read and compared: an answer that
// was lost after a put, and the put that then comes again, are no error.
func (c *Cloud) Put(ctx context.Context, sessionID string, seq int, data *io.SectionReader) error {
	if err := checkPut(ctx, sessionID, seq); err != nil {
		return err
	}
	name := objectName(sessionID, seq)
	if data.Size() > maxCloud {
		return fmt.Errorf("bucket: put %s: %d bytes are more than one request takes (%d)", name, data.Size(), maxCloud)
	}
	ctx, cancel := context.WithTimeout(ctx, putTime)
	defer cancel()
	err := c.bucket.Upload(ctx, c.prefix+name, io.NewSectionReader(data, 0, data.Size()),
		&blob.WriterOptions{ContentType: "application/octet-stream", IfNotExist: true})
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		err = c.compare(ctx, name, data)
	}
	if err != nil {
		return fmt.Errorf("bucket: put %s: %w", name, err)
	}
	return nil
}

func (c *Cloud) compare(ctx context.Context, name string, data *io.SectionReader) error {
	there, err := c.bucket.NewReader(ctx, c.prefix+name, nil)
	if err != nil {
		return err
	}
	return errors.Join(same(there, data), there.Close())
}

// Extent implements Store.
func (c *Cloud) Extent(ctx context.Context, sessionID string) (Extent, error) {
	return extent(ctx, c, sessionID)
}

// Size returns the bytes of a recording, or fs.ErrNotExist, wrapped, where there is nothing.
func (c *Cloud) Size(ctx context.Context, sessionID string) (int64, error) {
	return size(ctx, c, sessionID)
}

// Reader returns a recording's bytes as Dir.Reader does.
func (c *Cloud) Reader(ctx context.Context, sessionID string, from int64) (io.ReadCloser, error) {
	return newReader(ctx, c, sessionID, from)
}

func (c *Cloud) sizes(ctx context.Context, sessionID string) ([]int64, error) {
	count := counter{session: sessionID}
	prefix := c.prefix + sessionID + "/"
	err := c.each(ctx, prefix, "", func(o *blob.ListObject) error {
		name := strings.TrimPrefix(o.Key, prefix)
		if !objectPattern.MatchString(name) {
			return nil
		}
		return count.add(name, o.Size)
	})
	return count.sizes, err
}

// each lists the objects under a prefix in order, page by page.
func (c *Cloud) each(ctx context.Context, prefix, delimiter string, f func(*blob.ListObject) error) error {
	list := c.bucket.List(&blob.ListOptions{Prefix: prefix, Delimiter: delimiter})
	for {
		o, err := list.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("bucket: list %s: %w", prefix, err)
		}
		if err := f(o); err != nil {
			return err
		}
	}
}

func (c *Cloud) open(ctx context.Context, sessionID string, seq int, from int64) (io.ReadCloser, error) {
	r, err := c.bucket.NewRangeReader(ctx, c.prefix+objectName(sessionID, seq), from, -1, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// List returns the IDs of all sessions that have an object, in order.
func (c *Cloud) List(ctx context.Context) ([]string, error) {
	var ids []string
	err := c.each(ctx, c.prefix, "/", func(o *blob.ListObject) error {
		if id := strings.Trim(strings.TrimPrefix(o.Key, c.prefix), "/"); o.IsDir && sessionPattern.MatchString(id) {
			ids = append(ids, id)
		}
		return nil
	})
	slices.Sort(ids)
	return ids, err
}
