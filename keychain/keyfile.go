package keychain

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"sega/keychain/secret"
)

// keyFile keeps each key in a file of mode 0400 in the store's directory: 64 hex digits and a line
// feed.
type keyFile struct{ dir string }

func (k keyFile) path(item string) string { return filepath.Join(k.dir, "key-"+item) }

func (k keyFile) load(item string) (secret.Secret, error) {
	path := k.path(item)
	f, err := openPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Secret{}, errNoItem
	}
	if err != nil {
		return secret.Secret{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 2*keySize+2))
	if err != nil {
		return secret.Secret{}, fmt.Errorf("read the key file: %w", err)
	}
	defer clear(text)
	return parseKey(string(text))
}

func (k keyFile) save(item string, key secret.Secret) error {
	f, err := os.OpenFile(k.path(item), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return fmt.Errorf("create the key file: %w", err)
	}
	_, err = f.WriteString(formatKey(key))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("write the key file: %w", err), os.Remove(k.path(item)))
	}
	return nil
}

// openPrivate opens a regular file that nobody else may read.
func openPrivate(path string) (*os.File, error) {
	before, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(before, info) {
		err = fmt.Errorf("%s was exchanged while it was opened", path)
	}
	if err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("%s can be read by others (mode %04o): its key may be known, so move it away, or run chmod 400 if you know who changed it", path, info.Mode().Perm())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// formatKey is how a key is written wherever text is stored.
func formatKey(key secret.Secret) string { return hex.EncodeToString(key.Reveal()) + "\n" }

// parseKey takes what formatKey gave, with or without its line feed.
func parseKey(text string) (secret.Secret, error) {
	raw, err := hex.DecodeString(strings.TrimSuffix(text, "\n"))
	if err != nil || len(raw) != keySize {
		return secret.Secret{}, errors.New("what is stored is not a key of sega")
	}
	defer clear(raw)
	return secret.New(raw), nil
}
