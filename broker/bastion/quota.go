package bastion

import (
	"fmt"
	"io/fs"
	"sync"

	"sega/audit"
)

// owner is a person as quotas count: (issuer, subject).
type owner struct {
	Issuer  string `json:"iss"`
	Subject string `json:"sub"`
}

// quotas count what recordings take of the spool, by session and by person, until it is in the bucket
// and its spool is gone. A limit of 0 is none.
type quotas struct {
	perSession, perPerson int64

	mu       sync.Mutex
	sessions map[string]*share
	people   map[owner]int64
}

// share is what one session takes.
type share struct {
	of    owner
	bytes int64
}

func newQuotas(perSession, perPerson int64) *quotas {
	return &quotas{perSession: perSession, perPerson: perPerson, sessions: map[string]*share{}, people: map[owner]int64{}}
}

// add counts n more bytes of a session, and returns the limit that they pass, as the reason of its end.
func (q *quotas) add(id string, of owner, n int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sessions[id]
	if s == nil {
		s = &share{of: of}
		q.sessions[id] = s
	}
	s.bytes += n
	q.people[of] += n
	switch {
	case q.perSession > 0 && s.bytes > q.perSession:
		return quotaReached("its recording has reached the limit of %s for a session", q.perSession)
	case q.perPerson > 0 && q.people[of] > q.perPerson:
		return quotaReached("your recordings that are not stored yet have reached the limit of %s on this bastion", q.perPerson)
	}
	return nil
}

// room refuses a person who has reached the limit already.
func (q *quotas) room(of owner) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.perPerson > 0 && q.people[of] >= q.perPerson {
		return hint(fmt.Errorf("your recordings that are not stored yet take all of the %s that they may on this bastion", size(q.perPerson)),
			"end sessions that write much (sega sessions), or try again in a minute")
	}
	return nil
}

// forget gives back what a session took.
func (q *quotas) forget(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sessions[id]
	if s == nil {
		return
	}
	delete(q.sessions, id)
	if q.people[s.of] -= s.bytes; q.people[s.of] <= 0 {
		delete(q.people, s.of)
	}
}

func quotaReached(format string, limit int64) endReason {
	return endReason{outcome: audit.Failure, reason: fmt.Sprintf(format, size(limit))}
}

// size writes bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

// countedFile is the spool of a session whose bytes are counted. A write that passes a limit is
// written, and what it recorded is not forwarded, for the session is cut when it returns.
type countedFile struct {
	SpoolFile
	s *session
}

// Write implements io.Writer.
func (f *countedFile) Write(p []byte) (int, error) {
	n, err := f.SpoolFile.Write(p)
	if full := f.s.b.quotas.add(f.s.meta.SessionID, f.s.meta.Person, int64(n)); full != nil {
		f.s.cut(full.(endReason))
	}
	return n, err
}

// countLeftovers counts what an earlier process has left on the spool.
func (b *Bastion) countLeftovers() {
	for _, id := range b.leftovers {
		info, err := fs.Stat(b.spool.root.FS(), id+spoolSuffix)
		m, metaErr := b.spool.meta(id)
		if err == nil && metaErr == nil {
			_ = b.quotas.add(id, m.Person, info.Size())
		}
	}
}
