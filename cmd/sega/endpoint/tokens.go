package endpoint

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

// tokens are those of metadata: an end and a MAC over it. None is remembered, so that whoever asks for
// many fills nothing.
type tokens struct {
	now func() time.Time

	mu  sync.Mutex
	key [sha256.Size]byte
}

// A token is 16 random bytes, the end in milliseconds of Unix time, and the MAC of both.
const (
	nonceSize  = 16
	signedSize = nonceSize + 8
)

func newTokens(now func() time.Time) *tokens {
	t := &tokens{now: now}
	t.forget()
	return t
}

// forget makes all tokens void by taking another key.
func (t *tokens) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = rand.Read(t.key[:]) // never fails (crypto/rand)
}

func (t *tokens) mac(signed []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := hmac.New(sha256.New, t.key[:])
	h.Write(signed)
	return h.Sum(nil)
}

func (t *tokens) give(d time.Duration) string {
	raw := make([]byte, nonceSize, signedSize+sha256.Size)
	_, _ = rand.Read(raw)
	raw = binary.BigEndian.AppendUint64(raw, uint64(t.now().Add(d).UnixMilli()))
	return base64.RawURLEncoding.EncodeToString(append(raw, t.mac(raw)...))
}

// good reports whether what a request shows is one token, of this key, that has not ended.
func (t *tokens) good(shown []string) bool {
	if len(shown) != 1 {
		return false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(shown[0])
	if err != nil || len(raw) != signedSize+sha256.Size {
		return false
	}
	signed, mac := raw[:signedSize], raw[signedSize:]
	end := time.UnixMilli(int64(binary.BigEndian.Uint64(signed[nonceSize:])))
	return hmac.Equal(mac, t.mac(signed)) && t.now().Before(end)
}
