// Package atomicfile owns how a file gets new content: whole, or not at all, whoever reads it meanwhile and whenever the
// machine stops. It is a leaf, for every program here that keeps a file; files with steps of their own (an owner that
// stays, a name that must be new) do them themselves. It serves all flows of docs/architecture.md.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// Replace makes data the content of a file, which need not exist; its folder must. Whoever reads it meanwhile finds the
// old content or the new one. It returns when the new one would survive a loss of power: a rename alone may survive it
// without the bytes. A link is replaced itself. Of what fails nothing stays but the old file.
func Replace(path string, data []byte, mode os.FileMode) error {
	if err := replace(path, data, mode, (*os.File).Sync); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// ReplaceSoon is Replace for what may be lost when the machine stops: it waits for no disk.
func ReplaceSoon(path string, data []byte, mode os.FileMode) error {
	return replace(path, data, mode, func(*os.File) error { return nil })
}

func replace(path string, data []byte, mode os.FileMode, sync func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".sega-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = errors.Join(f.Chmod(mode), sync(f))
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// SyncDir makes a folder's names durable. Windows cannot open a folder for it and does not need it.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
