package bucket

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
)

// ErrConflict means that an object exists with other bytes. Nothing in a bucket is ever replaced.
var ErrConflict = errors.New("bucket: the object exists with other bytes")

var (
	sessionPattern = regexp.MustCompile(`^ssh_[a-z0-9]{10,40}$`)
	objectPattern  = regexp.MustCompile(`^[0-9]{8}$`)
)

const maxObjects = 100_000_000 // what eight digits can number

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

func objectName(sessionID string, seq int) string {
	return path.Join(sessionID, fmt.Sprintf("%08d", seq))
}

// Put makes an object durable: when it returns nil, the object's bytes and its name are on disk.
// Putting the same bytes again is no error; other bytes under the name are ErrConflict.
func (d *Dir) Put(ctx context.Context, sessionID string, seq int, data []byte) error {
	if err := checkSession(sessionID); err != nil {
		return err
	}
	if seq < 0 || seq >= maxObjects {
		return fmt.Errorf("bucket: object number %d is out of range", seq)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := d.put(sessionID, objectName(sessionID, seq), data); err != nil {
		return fmt.Errorf("bucket: put %s: %w", objectName(sessionID, seq), err)
	}
	return nil
}

func (d *Dir) put(sessionID, name string, data []byte) error {
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

func (d *Dir) writeFile(name string, data []byte) error {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// publish gives temp its name. A hard link never replaces what is there, not even what another
// process has just put there; where the file system has none, a look before a rename must do.
func (d *Dir) publish(temp, name string, data []byte) error {
	err := d.root.Link(temp, name)
	if err == nil {
		return nil
	}
	if there, err := d.root.ReadFile(name); err == nil {
		return compare(there, data)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.root.Rename(temp, name)
}

func compare(there, data []byte) error {
	if !bytes.Equal(there, data) {
		return fmt.Errorf("%w: %d bytes there, %d bytes given", ErrConflict, len(there), len(data))
	}
	return nil
}

func (d *Dir) syncFolder(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Extent is how much of a recording a bucket holds.
type Extent struct {
	Objects int
	Bytes   int64
}

// Extent returns how much is there of a session: zeroes where there is nothing, an error that
// names the first number which is missing.
func (d *Dir) Extent(ctx context.Context, sessionID string) (Extent, error) {
	if err := checkSession(sessionID); err != nil {
		return Extent{}, err
	}
	if ctx.Err() != nil {
		return Extent{}, context.Cause(ctx)
	}
	count, err := d.objects(sessionID)
	if err != nil {
		return Extent{}, err
	}
	e := Extent{Objects: count}
	for seq := range count {
		info, err := d.root.Lstat(objectName(sessionID, seq))
		if err != nil {
			return Extent{}, fmt.Errorf("bucket: %w", err)
		}
		e.Bytes += info.Size()
	}
	return e, nil
}

// Size returns the bytes of a recording, or fs.ErrNotExist, wrapped, where there is nothing.
func (d *Dir) Size(ctx context.Context, sessionID string) (int64, error) {
	e, err := d.Extent(ctx, sessionID)
	if err == nil && e.Objects == 0 {
		err = notExist(sessionID)
	}
	return e.Bytes, err
}

func notExist(sessionID string) error {
	return fmt.Errorf("bucket: recording %s: %w", sessionID, fs.ErrNotExist)
}

// objects returns how many objects a session has, numbered without a gap.
func (d *Dir) objects(sessionID string) (int, error) {
	entries, err := fs.ReadDir(d.root.FS(), sessionID)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("bucket: list %s: %w", sessionID, err)
	}
	count := 0
	for _, e := range entries { // in order of name, hence of number
		if !objectPattern.MatchString(e.Name()) {
			continue
		}
		if n, err := strconv.Atoi(e.Name()); err != nil || n != count {
			return 0, fmt.Errorf("bucket: object %s is missing", objectName(sessionID, count))
		}
		if !e.Type().IsRegular() {
			return 0, fmt.Errorf("bucket: object %s is not a file", objectName(sessionID, count))
		}
		count++
	}
	return count, nil
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
