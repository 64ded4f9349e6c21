//go:build linux

package host

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"sega/keychain/atomicfile"
)

// change is what a file is to become.
type change struct {
	path string
	data []byte // nil: it goes
	mode os.FileMode
}

// changes are carried out together or not at all.
type changes []change

// pending drops what is so already.
func (all changes) pending() changes {
	var out changes
	for _, c := range all {
		was, err := os.ReadFile(c.path)
		same := err == nil && c.data != nil && bytes.Equal(was, c.data)
		gone := errors.Is(err, fs.ErrNotExist) && c.data == nil
		if !same && !gone {
			out = append(out, c)
		}
	}
	return out
}

// apply carries them out in order and returns what puts everything back as it was. Where one fails, those
// before it are undone.
func (all changes) apply() (undo func() error, err error) {
	var before changes
	undo = func() error {
		var errs error
		for i := len(before) - 1; i >= 0; i-- {
			errs = errors.Join(errs, before[i].do())
		}
		return errs
	}
	for _, c := range all {
		was, err := current(c.path)
		if err == nil {
			err = c.do()
		}
		if err != nil {
			return nil, errors.Join(err, undo())
		}
		before = append(before, was)
	}
	return undo, nil
}

// current is the change that makes a file what it is now.
func current(path string) (change, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return change{path: path}, nil
	}
	if err != nil {
		return change{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return change{}, err
	}
	return change{path: path, data: append([]byte{}, data...), mode: info.Mode().Perm()}, nil
}

func (c change) do() error {
	if c.data == nil {
		err := os.Remove(c.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return writeFile(c.path, c.data, c.mode)
}

// writeFile replaces a file whole and durably, or not at all: sshd reads while we write.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.Replace(path, data, mode)
}
