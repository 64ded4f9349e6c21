package bastion

import (
	"errors"

	"sega/broker/api"
)

// maxKeys bounds the registered keys that a bastion holds, some 100 bytes each.
const maxKeys = 500_000

var errKeySet = errors.New("a set of registered keys without its beginning, or of too many")

// setKeys takes a part of the set of registered keys. The whole takes the place of the one before.
func (f *feed) setKeys(set api.FeedKeySet) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if set.First {
		f.coming = map[string]string{}
	}
	if f.coming == nil || len(f.coming)+len(set.Keys) > maxKeys {
		return errKeySet
	}
	for _, k := range set.Keys {
		f.coming[k.Fingerprint] = k.ID
	}
	if set.Last {
		f.keys, f.coming = f.coming, nil
	}
	return nil
}

// anyKeys reports whether a key is registered at all.
func (f *feed) anyKeys() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.keys) > 0
}

// keyID returns the ID (key_…) of a registered key, or "".
func (f *feed) keyID(fingerprint string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keys[fingerprint]
}
