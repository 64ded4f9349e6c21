// Package secret owns the one type that carries tokens, keys and passwords through sega.
//
// A Secret prints, logs and marshals as a fixed marker in every way Go knows; its bytes leave
// only through Reveal. It imports nothing of ours, so every package may use it.
package secret

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"log/slog"
)

// Redacted is what a Secret shows wherever it is printed, logged or marshalled.
const Redacted = "[redacted]"

// Secret holds bytes that must not be shown. The zero value is empty. The bytes stand behind two
// pointers, so that printing a struct with an unexported Secret field shows an address at most:
// behind one, fmt's complaint about a wrong verb prints what it points to.
type Secret struct {
	b **[]byte
}

// New returns a Secret that owns a copy of b.
func New(b []byte) Secret {
	c := append([]byte(nil), b...)
	p := &c
	return Secret{b: &p}
}

// FromString returns a Secret with the bytes of s.
func FromString(s string) Secret { return New([]byte(s)) }

// Reveal returns the bytes. The caller must not keep or print them longer than the use needs.
func (s Secret) Reveal() []byte {
	if s.b == nil {
		return nil
	}
	return **s.b
}

// Empty reports whether there are no bytes.
func (s Secret) Empty() bool { return len(s.Reveal()) == 0 }

// Equal compares in constant time for equal lengths.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare(s.Reveal(), o.Reveal()) == 1
}

// Wipe overwrites the bytes; every copy of this Secret is empty afterwards.
func (s Secret) Wipe() {
	if s.b == nil {
		return
	}
	clear(**s.b)
	**s.b = nil
}

// Format implements fmt.Formatter for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements encoding.TextMarshaler (JSON and YAML use it) and redacts. A type that
// must put a secret on the wire does so through an explicit method, never through its marshaller.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// UnmarshalText takes the bytes from text.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = New(text)
	return nil
}

// UnmarshalJSON takes the bytes from a JSON string.
func (s *Secret) UnmarshalJSON(data []byte) error {
	var v string
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("secret: not a JSON string")
	}
	*s = FromString(v)
	return nil
}
