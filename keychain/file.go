package keychain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"

	"sega/keychain/atomicfile"
)

const (
	sealedName = "secrets.sealed"
	newName    = "secrets.sealed.new" // written under the lock, so one name is enough
	lockName   = "lock"

	// lockTime is how long a process waits for another one, which may be asking a person.
	lockTime = personTime + 10*time.Second
	lockPoll = 5 * time.Millisecond
)

// disk is what the store does to files, so that a test can let each step fail.
type disk struct {
	create  func(path string) (diskFile, error)
	rename  func(from, to string) error
	syncDir func(dir string) error
}

type diskFile interface {
	io.Writer
	Sync() error
	Close() error
}

func realDisk() disk {
	return disk{create: createPrivate, rename: os.Rename, syncDir: atomicfile.SyncDir}
}

// createPrivate makes a new file of mode 0600, over whatever a dead process has left there.
func createPrivate(path string) (diskFile, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// replace puts data in the place of the sealed file, whole or not at all. Under the lock.
func (d disk) replace(dir string, data []byte) error {
	fresh := filepath.Join(dir, newName)
	f, err := d.create(fresh)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	if err := d.rename(fresh, filepath.Join(dir, sealedName)); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return d.syncDir(dir)
}

// readSealed returns the sealed file's bytes, or fs.ErrNotExist.
func readSealed(dir string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, sealedName))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// private checks that a directory, where it exists, is nobody else's to read or write.
func private(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keychain: look at the directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("keychain: %s is not a directory", dir)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("keychain: %s is open to others (mode %04o): run chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	return nil
}

// lock waits for the kernel's lock on the directory, which dies with its process, and returns what
// gives it back.
func lock(dir string, patience time.Duration) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	switch _, err := f.TryLockContext(ctx, lockPoll); {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%w for %v: %s", ErrBusy, patience, dir)
	case err != nil:
		return nil, fmt.Errorf("keychain: take the lock: %w", err)
	}
	return func() { _ = f.Unlock() }, nil
}
