package krl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Replace makes data the content of the file that sshd or ssh reads a KRL from, mode 0644. Whoever reads the
// file meanwhile finds the old content or the new one, whole: a file that is cut off or missing makes sshd refuse
// every key, and an empty one revokes nothing. It returns when the new content would survive a loss of power.
//
// What Parse refuses is not written, and the old file stays.
func Replace(path string, data []byte) (err error) {
	if _, err := Parse(data); err != nil {
		return fmt.Errorf("%s stays as it was: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644) // nothing in it is secret, and sshd may read it as another user
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir puts a folder's names on disk. Windows has no such thing.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
