package awsconfig

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// lockFile locks a file of the person's cache: Windows lets nobody read a file that is locked.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, "sega")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(strings.ToLower(path)))
	f := flock.New(filepath.Join(dir, "configure-"+hex.EncodeToString(sum[:8])+".lock"), flock.SetPermissions(0o600))
	if _, err := f.TryLockContext(ctx, lockPoll); err != nil {
		return nil, err
	}
	return func() { _ = f.Unlock() }, nil
}

// keepOwner has nothing to do: a file is its maker's.
func keepOwner(string, fs.FileInfo) error { return nil }
