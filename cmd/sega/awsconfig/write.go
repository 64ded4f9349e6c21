package awsconfig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"sega/keychain/atomicfile"
)

// ErrChanged is returned where somebody else has changed the file between reading and writing.
var ErrChanged = errors.New("something else has changed the file meanwhile")

// disk is what Edit does to files, so that a test can let each step fail.
type disk struct {
	create  func(dir string) (temporary, error)
	rename  func(from, to string) error
	link    func(from, to string) error
	syncDir func(dir string) error
}

type temporary interface {
	io.Writer
	Name() string
	Chmod(fs.FileMode) error
	Sync() error
	Close() error
}

func realDisk() disk {
	create := func(dir string) (temporary, error) { return os.CreateTemp(dir, ".sega-*") }
	return disk{create, os.Rename, os.Link, atomicfile.SyncDir}
}

// Edit changes a file under a lock that keeps other sega processes out. It is replaced whole, by
// rename, with its mode and owner; a link to it stays one. Where change leaves it as it was, nothing
// is written. A file that does not exist is made with mode 0600. Whatever fails, it is as it was.
func Edit(ctx context.Context, path string, change func(*File) error) (changed bool, err error) {
	return realDisk().edit(ctx, path, change)
}

func (d disk) edit(ctx context.Context, path string, change func(*File) error) (bool, error) {
	return d.rewrite(ctx, path, func(was []byte) ([]byte, error) {
		f := Parse(was)
		if err := change(f); err != nil {
			return nil, err
		}
		if err := f.Sound(); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return f.Bytes(), nil
	})
}

// Rewrite is Edit for a file of any form, such as ~/.ssh/config: change gets what it holds, and returns
// what it shall hold.
func Rewrite(ctx context.Context, path string, change func(was []byte) ([]byte, error)) (changed bool, err error) {
	return realDisk().rewrite(ctx, path, change)
}

func (d disk) rewrite(ctx context.Context, path string, change func(was []byte) ([]byte, error)) (bool, error) {
	path, err := target(path)
	if err != nil {
		return false, err
	}
	unlock, err := lock(ctx, path)
	if err != nil {
		return false, err
	}
	defer unlock()
	was, info, err := read(path)
	if err != nil {
		return false, err
	}
	is, err := change(was)
	if err != nil || bytes.Equal(was, is) {
		return false, err
	}
	err = d.replace(path, is, was, info)
	return err == nil, err
}

// Read parses a file; one that does not exist is empty.
func Read(path string) (*File, error) {
	data, _, err := read(path)
	return Parse(data), err
}

// read returns a file's text and what it is; nil for both where there is none.
func read(path string) ([]byte, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := os.ReadFile(path)
	return data, info, err
}

// target follows links to the file itself, which need not exist: who keeps it elsewhere and links to
// it wants it changed there.
func target(path string) (string, error) {
	for range 40 {
		to, err := os.Readlink(path)
		if err != nil { // no link
			return path, nil
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return "", fmt.Errorf("%s is a link without an end", path)
}

// replace puts text in the place of a file that held another, whole or not at all.
func (d disk) replace(path string, text, was []byte, info fs.FileInfo) error {
	dir := filepath.Dir(path)
	if info == nil {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	tmp, err := d.create(dir)
	if err != nil {
		return fmt.Errorf("%s is as it was: %w", path, err)
	}
	err = errors.Join(fill(tmp, text, info), tmp.Close())
	if err == nil {
		err = unchanged(path, was, info)
	}
	if err == nil {
		err = d.place(tmp.Name(), path, info == nil)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(tmp.Name()))
		if errors.Is(err, ErrChanged) {
			return fmt.Errorf("%s: %w", path, err)
		}
		return fmt.Errorf("%s is as it was: %w", path, err)
	}
	return d.syncDir(dir)
}

// place moves a file to where another is, or, as a new one, where none is.
func (d disk) place(from, to string, fresh bool) error {
	if fresh { // a link, unlike a rename, replaces nothing that has appeared meanwhile
		switch err := d.link(from, to); {
		case err == nil:
			return os.Remove(from)
		case errors.Is(err, fs.ErrExist):
			return ErrChanged
		} // else a file system without links
	}
	return d.rename(from, to)
}

// fill makes a file what another was, with another text.
func fill(tmp temporary, text []byte, info fs.FileInfo) error {
	if _, err := tmp.Write(text); err != nil {
		return err
	}
	if info != nil {
		if err := keepOwner(tmp.Name(), info); err != nil {
			return fmt.Errorf("keep its owner: %w", err)
		}
		if err := tmp.Chmod(info.Mode().Perm()); err != nil {
			return err
		}
	}
	return tmp.Sync()
}

func unchanged(path string, was []byte, info fs.FileInfo) error {
	now, nowInfo, err := read(path)
	if err != nil {
		return err
	}
	if (info == nil) != (nowInfo == nil) || info != nil && !os.SameFile(info, nowInfo) || !bytes.Equal(was, now) {
		return ErrChanged
	}
	return nil
}
