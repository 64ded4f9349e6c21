package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"

	"golang.org/x/crypto/ssh"

	"sega/keychain/atomicfile"
	"sega/sshca"
)

// knownKeys is a file outside of the database: the public key that each configured place of a CA's key had when it opened
// last, as an authorized_keys line. A key whose HSM is away stays trusted by it; the database's word alone is not
// enough (broker.CAs).
type knownKeys struct {
	path string
	keys map[string]string // by place, as in the file
	held map[string]string
}

// readKnownKeys reads what an earlier run has left; nothing where there was none.
func readKnownKeys(path string) (*knownKeys, error) {
	k := &knownKeys{path: path, keys: map[string]string{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &k.keys)
	}
	if err == nil && k.keys == nil {
		err = errors.New("it holds null")
	}
	if err == nil {
		for _, line := range k.keys {
			_, err = sshca.ParseKey(line)
			if err != nil {
				break
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s, which says what keys of the CAs are known: %w\nremove it while every configured key opens: it is written anew", path, err)
	}
	k.held = maps.Clone(k.keys)
	return k, nil
}

// of is the key that a place had, nil where that is not known.
func (k *knownKeys) of(place string) ssh.PublicKey {
	key, err := sshca.ParseKey(k.keys[place])
	if err != nil { // there is none: those of the file were looked at
		return nil
	}
	return key
}

func (k *knownKeys) learn(place string, key ssh.PublicKey) {
	k.keys[place] = sshca.MarshalLine(key)
}

// keep forgets all other places than these, and writes what has changed. A failure is told and tried again with the next reading:
// until then a key whose place fails is not trusted.
func (k *knownKeys) keep(places map[string]bool, log *slog.Logger) {
	maps.DeleteFunc(k.keys, func(place, _ string) bool { return !places[place] })
	if maps.Equal(k.keys, k.held) {
		return
	}
	data, err := json.MarshalIndent(k.keys, "", "  ")
	if err == nil {
		err = atomicfile.Replace(k.path, append(data, '\n'), markMode)
	}
	if err != nil {
		log.Error("which keys the CAs have was not noted", "error", err)
		return
	}
	k.held = maps.Clone(k.keys)
}
