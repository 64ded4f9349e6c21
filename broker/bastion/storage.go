package bastion

import (
	"sync"
	"time"

	"sega/broker/api"
)

// storagePatience is for how long uploads of a session may fail before its ladder acts.
const storagePatience = 30 * time.Second

// storage follows whether the bucket takes what a session records.
type storage struct {
	mu     sync.Mutex
	tried  bool      // since the last failure
	since  time.Time // of the first failure without a success behind it; zero while it works
	failed bool      // the ladder was told
}

// refused notes a failed upload, and reports whether the ladder is to act.
func (s *storage) refused(now time.Time, patience time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = false
	if s.since.IsZero() {
		s.since = now
	}
	act := !s.failed && now.Sub(s.since) >= patience
	s.failed = s.failed || act
	return act
}

// next comes before each upload, and reports whether the ladder's act is to be undone: the upload
// before has not failed.
func (s *storage) next() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := s.tried
	s.tried = true
	if !ok {
		return false
	}
	mended := s.failed
	s.since, s.failed = time.Time{}, false
	return mended
}

// uploadFailed and uploads are told of each attempt to upload of a session that lives.
func (s *session) uploadFailed() {
	if s.storage.refused(time.Now(), s.b.cfg.StoragePatience) {
		s.b.reports.putAll(s.failed(api.OnStorage))
	}
}

func (s *session) uploads() {
	if s.storage.next() {
		s.b.reports.putAll(s.mended(api.OnStorage))
	}
}
