package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// lockName is a file in the folder of a server's data.
const lockName = "lock"

// lockData makes the folder of a server's data and keeps a second process out of it: two with one
// name end each other's session at the broker again and again. The kernel drops the lock with the process.
func lockData(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	held, err := f.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("lock the data folder: %w", err)
	case !held:
		return nil, fmt.Errorf("another process uses the data folder %s: stop it, or give this one a name and a folder of its own", dir)
	}
	return func() { _ = f.Unlock() }, nil
}
