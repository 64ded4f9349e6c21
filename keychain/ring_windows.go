package keychain

import (
	"errors"
	"fmt"
	"time"

	"github.com/99designs/keyring"

	"sega/keychain/secret"
)

// ring reaches the Windows Credential Manager through 99designs/keyring.
type ring struct {
	kind     keyring.BackendType
	patience time.Duration
}

func (r ring) load(item string) (secret.Secret, error) {
	got, err := within(r.patience, func() (keyring.Item, error) {
		k, err := r.open()
		if err != nil {
			return keyring.Item{}, err
		}
		return k.Get(item)
	})
	if errors.Is(err, keyring.ErrKeyNotFound) {
		return secret.Secret{}, errNoItem
	}
	if err != nil {
		return secret.Secret{}, err
	}
	defer clear(got.Data)
	return parseKey(string(got.Data))
}

func (r ring) save(item string, key secret.Secret) error {
	_, err := within(r.patience, func() (struct{}, error) {
		k, err := r.open()
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, k.Set(keyring.Item{Key: item, Data: []byte(formatKey(key)), Label: "sega", Description: "key of sega's secrets on this machine"})
	})
	return err
}

func (r ring) open() (keyring.Keyring, error) {
	k, err := keyring.Open(keyring.Config{AllowedBackends: []keyring.BackendType{r.kind}, ServiceName: "sega", WinCredPrefix: "sega"})
	if err != nil {
		return nil, fmt.Errorf("open the %s: %w", r.kind, err)
	}
	return k, nil
}

// within gives up on a call of the system after patience. The call cannot be taken back: its
// goroutine stays until the system answers or the process ends, and its answer is dropped.
func within[T any](patience time.Duration, f func() (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	c := make(chan answer, 1)
	go func() {
		v, err := f()
		c <- answer{v, err}
	}()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case a := <-c:
		return a.v, a.err
	case <-t.C:
		var zero T
		return zero, errSilent
	}
}
