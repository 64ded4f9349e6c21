package recording

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"time"

	"golang.org/x/crypto/blake2b"
)

// Hash names the function that chains a recording. Both give 32 bytes and neither is weaker; which
// is cheaper depends on the processor, and hashing is the greater part of what recording costs.
type Hash string

// Hashes.
const (
	BLAKE2b Hash = "blake2b-256"
	SHA256  Hash = "sha256"
)

func (h Hash) new() (hash.Hash, error) {
	switch h {
	case BLAKE2b:
		return blake2b.New256(nil)
	case SHA256:
		return sha256.New(), nil
	}
	return nil, fmt.Errorf("recording: hash %q is unknown: use %s or %s", string(h), BLAKE2b, SHA256)
}

// sum hashes b at once. h must be known.
func (h Hash) sum(b []byte) [32]byte {
	if h == SHA256 {
		return sha256.Sum256(b)
	}
	return blake2b.Sum256(b)
}

// FasterHash measures for about a millisecond which function is cheaper here: SHA256 where the
// processor has instructions for it (0.6 CPU seconds a GiB against 1.6), else BLAKE2b.
// A bastion asks once when it starts and hands the answer to every Config.
func FasterHash() Hash {
	data := make([]byte, 32<<10)
	if cost(SHA256, data) < cost(BLAKE2b, data) {
		return SHA256
	}
	return BLAKE2b
}

// cost is the shortest of several runs: whatever else the machine does only makes a run longer.
func cost(h Hash, data []byte) time.Duration {
	best := time.Hour
	for range 5 {
		start := time.Now()
		h.sum(data)
		best = min(best, time.Since(start))
	}
	return best
}

func hexDigest(d [32]byte) string { return hex.EncodeToString(d[:]) }
