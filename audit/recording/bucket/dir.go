package bucket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
)

// ErrConflict means that an object exists with other bytes. Nothing in a bucket is ever replaced.
var ErrConflict = errors.New("bucket: the object exists with other bytes")

var (
	sessionPattern = regexp.MustCompile(`^ssh_[a-z0-9]{10,40}$`)
	objectPattern  = regexp.MustCompile(`^[0-9]{8}$`)
)

const (
	maxObjects = 100_000_000 // what eight digits can number
	copyBuffer = 256 << 10
)

// Dir is a bucket in a folder: object N of a session is the file SESSION/N with eight digits.
// Several processes may use one.
type Dir struct {
	root *os.Root
}

// OpenDir opens an existing folder as a bucket.
func OpenDir(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}
	return &Dir{root: root}, nil
}

// Close closes the folder. Readers that are open stay usable for the object that they are at.
func (d *Dir) Close() error { return d.root.Close() }

func checkSession(id string) error {
	if !sessionPattern.MatchString(id) {
		return fmt.Errorf("bucket: %q is not the ID of an SSH session", id)
	}
	return nil
}

// checkPut checks what every Put does first.
func checkPut(ctx context.Context, sessionID string, seq int) error {
	if err := checkSession(sessionID); err != nil {
		return err
	}
	if seq < 0 || seq >= maxObjects {
		return fmt.Errorf("bucket: object number %d is out of range", seq)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func objectName(sessionID string, seq int) string {
	return path.Join(sessionID, fmt.Sprintf("%08d", seq))
}

// Put makes an object durable: when it returns nil, the object's bytes and its name are on disk.
// Putting the same bytes again is no error; other bytes under the name are ErrConflict.
func (d *Dir) Put(ctx context.Context, sessionID string, seq int, data *io.SectionReader) error {
	if err := checkPut(ctx, sessionID, seq); err != nil {
		return err
	}
	if err := d.put(sessionID, objectName(sessionID, seq), data); err != nil {
		return fmt.Errorf("bucket: put %s: %w", objectName(sessionID, seq), err)
	}
	return nil
}

func (d *Dir) put(sessionID, name string, data *io.SectionReader) error {
	if err := d.makeFolder(sessionID); err != nil {
		return err
	}
	temp := path.Join(sessionID, ".put-"+rand.Text())
	defer d.root.Remove(temp) // gone already where it was renamed
	if err := d.writeFile(temp, data); err != nil {
		return err
	}
	if err := d.publish(temp, name, data); err != nil {
		return err
	}
	return d.syncFolder(sessionID)
}

func (d *Dir) makeFolder(sessionID string) error {
	err := d.root.Mkdir(sessionID, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.syncFolder(".")
}

// writeFile copies data into a new file, in large pieces through our memory: copy_file_range pays for each page where
// an object does not begin at one, and shares blocks only where it does.
func (d *Dir) writeFile(name string, data *io.SectionReader) error {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, io.NewSectionReader(data, 0, data.Size()), make([]byte, copyBuffer))
	if err == nil && n != data.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// publish gives temp its name. A hard link never replaces what is there, not even what another
// process has just put there; where the file system has none, a look before a rename must do.
func (d *Dir) publish(temp, name string, data *io.SectionReader) error {
	err := d.root.Link(temp, name)
	if err == nil {
		return nil
	}
	there, err := d.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return d.root.Rename(temp, name)
	}
	if err != nil {
		return err
	}
	return errors.Join(same(there, data), there.Close())
}

func (d *Dir) syncFolder(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Extent returns how much is there of a session: zeroes where there is nothing, an error that
// names the first number which is missing.
func (d *Dir) Extent(ctx context.Context, sessionID string) (Extent, error) {
	return extent(ctx, d, sessionID)
}

// Size returns the bytes of a recording, or fs.ErrNotExist, wrapped, where there is nothing.
func (d *Dir) Size(ctx context.Context, sessionID string) (int64, error) {
	return size(ctx, d, sessionID)
}

// Reader returns a recording's bytes from a byte on: its objects one after the other. After io.EOF
// it goes on with those that have come since. It returns fs.ErrNotExist, wrapped, where there is
// nothing, ErrRange where there is less, and an error that names the first object which is missing.
func (d *Dir) Reader(ctx context.Context, sessionID string, from int64) (io.ReadCloser, error) {
	return newReader(ctx, d, sessionID, from)
}

func (d *Dir) sizes(_ context.Context, sessionID string) ([]int64, error) {
	entries, err := fs.ReadDir(d.root.FS(), sessionID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bucket: list %s: %w", sessionID, err)
	}
	c := counter{session: sessionID}
	for _, e := range entries { // in order of name, hence of number
		if !objectPattern.MatchString(e.Name()) {
			continue
		}
		info, err := d.regular(sessionID + "/" + e.Name())
		if err != nil {
			return nil, err
		}
		if err := c.add(e.Name(), info.Size()); err != nil {
			return nil, err
		}
	}
	return c.sizes, nil
}

// regular refuses links and whatever else is no file.
func (d *Dir) regular(name string) (fs.FileInfo, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("bucket: object %s is not a file", name)
	}
	return info, nil
}

func (d *Dir) open(_ context.Context, sessionID string, seq int, from int64) (io.ReadCloser, error) {
	name := objectName(sessionID, seq)
	if _, err := d.regular(name); err != nil {
		return nil, err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// List returns the IDs of all sessions that have a folder, in order.
func (d *Dir) List(ctx context.Context) ([]string, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("bucket: list: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && sessionPattern.MatchString(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	slices.Sort(ids)
	return ids, nil
}
