package recording

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
)

// checkRecipients requires two distinct recipients at least, so that a recording does not hang on
// one key, and returns how the header lists them: names, or where there are none the public keys.
func checkRecipients(what string, list []age.Recipient, names []string) ([]string, error) {
	if len(list) < 2 {
		return nil, fmt.Errorf("recording: %s: %d given, two distinct ones are needed: a reviewer's and an offline recovery key", what, len(list))
	}
	if names != nil && len(names) != len(list) {
		return nil, fmt.Errorf("recording: %s: %d recipients have %d names", what, len(list), len(names))
	}
	keys, err := publicKeys(what, list, names)
	if err != nil {
		return nil, err
	}
	if names == nil {
		names = keys
	}
	if twice(keys) || twice(names) {
		return nil, fmt.Errorf("recording: %s: the same one is given twice", what)
	}
	return slices.Clone(names), nil
}

// publicKeys returns what tells recipients apart: the public key, or the name of one that has no
// textual form.
func publicKeys(what string, list []age.Recipient, names []string) ([]string, error) {
	keys := make([]string, len(list))
	for i, r := range list {
		s, ok := r.(fmt.Stringer)
		switch {
		case r == nil:
			return nil, fmt.Errorf("recording: %s: recipient %d is nil", what, i)
		case ok:
			keys[i] = s.String()
		case names != nil:
			keys[i] = names[i]
		default:
			return nil, fmt.Errorf("recording: %s: recipient %d has no public key to list: name it", what, i)
		}
	}
	return keys, nil
}

func twice(list []string) bool {
	sorted := slices.Sorted(slices.Values(list))
	return len(slices.Compact(sorted)) != len(list)
}

// wrapKey encrypts a segment key to recipients as an age file.
func wrapKey(key []byte, to []age.Recipient) ([]byte, error) {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to...)
	if err != nil {
		return nil, fmt.Errorf("recording: wrap key: %w", err)
	}
	if _, err := w.Write(key); err != nil {
		return nil, fmt.Errorf("recording: wrap key: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("recording: wrap key: %w", err)
	}
	return b.Bytes(), nil
}

// unwrapKey opens an age file made by wrapKey. It returns nil without an error where no identity
// matches.
func unwrapKey(file []byte, identities []age.Identity) (*ratchet, error) {
	r, err := age.Decrypt(bytes.NewReader(file), identities...)
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("recording: wrapped key: %w", err)
	}
	var key [33]byte // one more than a key has, so that a longer one shows
	defer clear(key[:])
	if n, err := io.ReadFull(r, key[:]); n != 32 || err != io.ErrUnexpectedEOF {
		return nil, errors.New("recording: wrapped key has not 32 bytes")
	}
	return newRatchet([32]byte(key[:32]))
}
