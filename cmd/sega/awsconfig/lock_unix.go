//go:build unix

package awsconfig

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/gofrs/flock"
)

// lockFile locks the file itself, so that none is left beside it. A file that does not exist is not
// locked: two processes that make it collide when they put it in its place.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	for {
		f := flock.New(path, flock.SetFlag(os.O_RDWR))
		_, err := f.TryLockContext(ctx, lockPoll)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) { // there may be nothing to write, or it may be replaced all the same
			f = flock.New(path, flock.SetFlag(os.O_RDONLY))
			_, err = f.TryLockContext(ctx, lockPoll)
		}
		unlock := func() { _ = f.Close() }
		if errors.Is(err, fs.ErrNotExist) {
			return unlock, nil
		}
		if err != nil {
			return nil, err
		}
		held, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		now, err := os.Stat(path)
		if err == nil && os.SameFile(held, now) {
			return unlock, nil
		}
		unlock() // it was replaced while this process waited
	}
}

// keepOwner gives a file the owner and group of another.
func keepOwner(path string, info fs.FileInfo) error {
	want, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	is, err := os.Stat(path)
	if err != nil {
		return err
	}
	if has, ok := is.Sys().(*syscall.Stat_t); ok && has.Uid == want.Uid && has.Gid == want.Gid {
		return nil
	}
	return os.Lchown(path, int(want.Uid), int(want.Gid))
}
