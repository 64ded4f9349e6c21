package dpop

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"
)

const (
	// DefaultNonceTTL is how long a nonce is valid.
	DefaultNonceTTL = 2 * time.Minute
	// skew is how far ahead another broker's clock, which shares the key, may be.
	skew = 30 * time.Second

	stampSize = 8
	macSize   = 16
)

// Nonces issues and judges the server's nonces without keeping any: a nonce is the time of its
// making and a MAC over it. The time advances by the monotonic clock from the process's start, so
// that a step of the wall clock revives no old nonce. Safe for concurrent use.
type Nonces struct {
	key  []byte
	ttl  time.Duration
	now  func() time.Time
	base time.Time
}

// NewNonces makes an issuer. An empty key becomes a random one; brokers behind one name share a
// key, 32 bytes or more. ttl 0 means DefaultNonceTTL; now is time.Now where it is nil.
func NewNonces(key []byte, ttl time.Duration, now func() time.Time) (*Nonces, error) {
	switch {
	case len(key) == 0:
		key = make([]byte, sha256.Size)
		rand.Read(key)
	case len(key) < sha256.Size:
		return nil, errors.New("dpop: the nonce key must be 32 bytes at the least")
	}
	if ttl == 0 {
		ttl = DefaultNonceTTL
	}
	if ttl < time.Second || ttl > time.Hour {
		return nil, errors.New("dpop: a nonce must be valid between a second and an hour")
	}
	if now == nil {
		now = time.Now
	}
	return &Nonces{key: append([]byte(nil), key...), ttl: ttl, now: now, base: now()}, nil
}

// Lifetime is how long the replay cache must remember a proof that carries one of these nonces.
func (n *Nonces) Lifetime() time.Duration { return n.ttl + skew }

// Issue returns a nonce for now: 24 bytes, base64url.
func (n *Nonces) Issue() string {
	b := make([]byte, stampSize, stampSize+macSize)
	binary.BigEndian.PutUint64(b, uint64(n.clock()))
	return base64.RawURLEncoding.EncodeToString(append(b, n.mac(b)...))
}

// Valid reports whether a nonce is ours and not older than the lifetime.
func (n *Nonces) Valid(nonce string) bool {
	if len(nonce) != base64.RawURLEncoding.EncodedLen(stampSize+macSize) {
		return false
	}
	b, err := strict.DecodeString(nonce)
	if err != nil || len(b) != stampSize+macSize || !hmac.Equal(b[stampSize:], n.mac(b[:stampSize])) {
		return false
	}
	age := time.Duration(n.clock()-int64(binary.BigEndian.Uint64(b))) * time.Millisecond
	return age >= -skew && age <= n.ttl
}

// clock is in Unix milliseconds.
func (n *Nonces) clock() int64 { return n.base.Add(n.now().Sub(n.base)).UnixMilli() }

func (n *Nonces) mac(stamp []byte) []byte {
	h := hmac.New(sha256.New, n.key)
	h.Write([]byte("sega dpop nonce v1"))
	h.Write(stamp)
	return h.Sum(nil)[:macSize]
}
