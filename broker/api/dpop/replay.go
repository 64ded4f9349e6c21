package dpop

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

const (
	// DefaultReplayEntries bounds the cache: about 100 MiB when full, and 7,000 requests a second
	// for as long as a nonce may be valid.
	DefaultReplayEntries = 1 << 20

	shards = 64
)

type entry struct {
	id      [16]byte
	expires time.Duration // since base
}

// shard holds what was seen: in a map for the question, and in order of expiry for forgetting.
type shard struct {
	sync.Mutex
	seen  map[[16]byte]struct{}
	queue []entry
	head  int // entries before it are forgotten
}

// Replay remembers each proof for as long as its nonce may be valid. Its memory is bounded: when
// a shard is full it takes every proof for a replay until older ones expire. It is one process's
// own: brokers that share a nonce key do not share what they have seen. Safe for concurrent use.
type Replay struct {
	lifetime time.Duration
	limit    int // entries a shard
	now      func() time.Time
	base     time.Time
	shard    [shards]shard
}

// NewReplay makes a cache for at most entries proofs (0: DefaultReplayEntries), each kept for
// lifetime, which is Nonces.Lifetime. now is time.Now where it is nil; the cache counts by its
// monotonic reading.
func NewReplay(entries int, lifetime time.Duration, now func() time.Time) (*Replay, error) {
	if entries == 0 {
		entries = DefaultReplayEntries
	}
	if entries < shards || lifetime <= 0 {
		return nil, errors.New("dpop: the replay cache needs 64 entries at the least and a lifetime")
	}
	if now == nil {
		now = time.Now
	}
	r := &Replay{lifetime: lifetime, limit: entries / shards, now: now, base: now()}
	for i := range r.shard {
		r.shard[i].seen = make(map[[16]byte]struct{})
	}
	return r, nil
}

// Seen records a proof and reports whether it was there already, or could not be recorded.
func (r *Replay) Seen(thumbprint, jti string) bool {
	sum := sha256.Sum256([]byte(thumbprint + "\x00" + jti))
	id := [16]byte(sum[:16])
	s := &r.shard[sum[16]%shards]
	s.Lock()
	defer s.Unlock()
	elapsed := r.now().Sub(r.base)
	s.forget(elapsed)
	if _, ok := s.seen[id]; ok {
		return true
	}
	if len(s.seen) >= r.limit {
		return true
	}
	s.seen[id] = struct{}{}
	s.queue = append(s.queue, entry{id: id, expires: elapsed + r.lifetime})
	return false
}

// forget drops what has expired. The queue is moved down once half of it is spent, so that each
// entry is moved once on average.
func (s *shard) forget(elapsed time.Duration) {
	for s.head < len(s.queue) && s.queue[s.head].expires < elapsed {
		delete(s.seen, s.queue[s.head].id)
		s.head++
	}
	if s.head > 32 && s.head*2 >= len(s.queue) {
		s.queue = s.queue[:copy(s.queue, s.queue[s.head:])]
		s.head = 0
	}
}
