package broker

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sega/broker/api"
	"sega/broker/state"
)

// Limits are requests a second, and how many may come at once.
type Limits struct {
	AddressRate, SubjectRate, RefusalRate, StrangerRate     float64
	AddressBurst, SubjectBurst, RefusalBurst, StrangerBurst int
}

// DefaultLimits leave room for an office behind one address.
func DefaultLimits() Limits {
	return Limits{AddressRate: 500, AddressBurst: 2000, SubjectRate: 100, SubjectBurst: 400, RefusalRate: 5, RefusalBurst: 100, StrangerRate: 10, StrangerBurst: 200}
}

// limiterLife is how long an unused bucket is kept.
const limiterLife = 10 * time.Minute

// limiter holds the buckets of addresses and of people.
type limiter struct {
	limits Limits
	now    func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket
	swept   time.Time
	reading map[string]int // answers over the log that a person has under way
}

type bucket struct {
	*rate.Limiter
	used    time.Time
	omitted int // taken in vain since one was granted
}

func newLimiter(l Limits, now func() time.Time) *limiter {
	return &limiter{limits: l, now: now, buckets: map[string]*bucket{}, swept: now(), reading: map[string]int{}}
}

// address takes one request of an address.
func (l *limiter) address(a netip.Addr) error {
	return l.take("requests of this address", network(a), l.limits.AddressRate, l.limits.AddressBurst)
}

// subject takes one request of a person; machines are bounded by their address.
func (l *limiter) subject(s state.Session) error {
	if s.Kind != state.KindLogin {
		return nil
	}
	return l.take("requests of this person", s.Issuer+"\x00"+s.Subject, l.limits.SubjectRate, l.limits.SubjectBurst)
}

// stranger takes one request without a session: a login, a device login, an enrolment.
func (l *limiter) stranger(a netip.Addr) error {
	return l.take("requests without a session of this address", network(a), l.limits.StrangerRate, l.limits.StrangerBurst)
}

// refusal takes one refused request of an address, each of which writes an event, and says how
// many went without one before.
func (l *limiter) refusal(a netip.Addr) (omitted int, err error) {
	return l.count("refused requests of this address", network(a), l.limits.RefusalRate, l.limits.RefusalBurst)
}

// shown is refusal for a session whose token was shown under another key.
func (l *limiter) shown(session string) (omitted int, err error) {
	return l.count("refused requests with this session", session, l.limits.RefusalRate, l.limits.RefusalBurst)
}

// readsPerPerson is how many answers over the log a person may have under way at once: searches, counts,
// rows and rollups, and streams that follow. The store carries out a few at a time, for everybody.
const readsPerPerson = 16

// read begins an answer over the log to a person; done, which may be called again, ends it.
func (l *limiter) read(s state.Session) (done func(), err error) {
	if s.Kind != state.KindLogin {
		return func() {}, nil
	}
	key := s.Issuer + "\x00" + s.Subject
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.reading[key]; n >= readsPerPerson {
		p := api.Errorf(api.KindRateLimited, "too many searches of this person at once: %d are under way", n).WithHint("wait for their answers, or end a sega audit tail, and repeat")
		p.RetrySecs = 1
		return nil, p
	}
	l.reading[key]++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.reading[key]--; l.reading[key] == 0 {
			delete(l.reading, key)
		}
	}), nil
}

// bounded answers with handle where the person has not too much of the log under way. A stream is
// under way until it is written.
func (s *Server) bounded(handle func(context.Context, *call) (any, error)) func(context.Context, *call) (any, error) {
	return func(ctx context.Context, c *call) (any, error) {
		done, err := s.limits.read(c.session)
		if err != nil {
			return nil, err
		}
		streams := false
		defer func() {
			if !streams {
				done()
			}
		}()
		reply, err := handle(ctx, c)
		write, ok := reply.(stream)
		if err != nil || !ok {
			return reply, err
		}
		streams = true
		return stream(func(w http.ResponseWriter) {
			defer done()
			write(w)
		}), nil
	}
}

// network is the address itself, or the /64 of an IPv6 address, which one household holds.
func network(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// take takes one of what, which key has so many of.
func (l *limiter) take(what, key string, perSecond float64, burst int) error {
	_, err := l.count(what, key, perSecond, burst)
	return err
}

// count is take, and says how many were refused before one was granted again.
func (l *limiter) count(what, key string, perSecond float64, burst int) (omitted int, err error) {
	now := l.now()
	key = what + " " + key
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.swept) > limiterLife {
		for k, b := range l.buckets {
			if now.Sub(b.used) > limiterLife {
				delete(l.buckets, k)
			}
		}
		l.swept = now
	}
	b := l.buckets[key]
	if b == nil {
		b = &bucket{Limiter: rate.NewLimiter(rate.Limit(perSecond), burst)}
		l.buckets[key] = b
	}
	b.used = now
	if b.AllowN(now, 1) {
		omitted, b.omitted = b.omitted, 0
		return omitted, nil
	}
	b.omitted++
	p := api.Errorf(api.KindRateLimited, "too many %s", what).WithHint("wait a second and repeat")
	p.RetrySecs = 1
	return 0, p
}
