package bastion

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// Of one login: what ansible opens at once goes through, and nobody takes the broker's patience
// with the bastion as a whole (it bounds refusals by address) from everybody else.
const (
	callRate     = 20.0 // calls of the broker in a second
	callBurst    = 100.0
	refusedCost  = 5.0 // a refused call counts as many: 4 a second, 20 at once
	callsAtOnce  = 16
	callPatience = 3 * time.Second // for which a call waits for its turn
	meterMost    = 4096            // logins
)

var errTooFast = errors.New("too many connections or refusals for this login at once")

// meter bounds how often one login makes the bastion ask the broker.
type meter struct {
	mu     sync.Mutex
	logins map[string]*allowance
}

// allowance is a token bucket, below zero where calls wait, and the calls that are under way.
type allowance struct {
	tokens float64
	at     time.Time
	slots  chan struct{}
}

func newMeter() *meter { return &meter{logins: map[string]*allowance{}} }

// ask runs call, a question to the broker for login, when it is its turn, and charges login more
// where the broker says no. It returns what call returns, or errTooFast where the turn is far away.
func (m *meter) ask(ctx context.Context, login string, call func() error) error {
	patience, cancel := context.WithTimeoutCause(ctx, callPatience, hint(errTooFast, "wait a few seconds and try again"))
	defer cancel()
	slots := m.slots(login)
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-patience.Done():
		return context.Cause(patience)
	}
	delay, ok := m.take(login, time.Now())
	if !ok {
		return hint(errTooFast, "wait a few seconds and try again")
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(delay):
	}
	err := call()
	if saidNo(err) {
		m.refused(login)
	}
	return err
}

func (m *meter) slots(login string) chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.filled(login, time.Now()).slots
}

func (m *meter) take(login string, now time.Time) (delay time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.filled(login, now)
	delay = max(0, time.Duration((1-a.tokens)/callRate*float64(time.Second)))
	if delay > callPatience {
		return 0, false
	}
	a.tokens--
	return delay, true
}

// refused charges login for a call that the broker has refused.
func (m *meter) refused(login string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.filled(login, time.Now()).tokens -= refusedCost - 1
}

// filled returns the allowance of login as of now; the caller holds mu.
func (m *meter) filled(login string, now time.Time) *allowance {
	a := m.logins[login]
	if a == nil {
		m.sweep(now)
		a = &allowance{tokens: callBurst, at: now, slots: make(chan struct{}, callsAtOnce)}
		m.logins[login] = a
	}
	a.tokens = math.Min(callBurst, a.tokens+callRate*math.Max(0, now.Sub(a.at).Seconds()))
	a.at = now
	return a
}

// sweep forgets logins that have all of their allowance back, once there are many.
func (m *meter) sweep(now time.Time) {
	if len(m.logins) < meterMost {
		return
	}
	for login, a := range m.logins {
		if len(a.slots) == 0 && a.tokens+callRate*now.Sub(a.at).Seconds() >= callBurst {
			delete(m.logins, login)
		}
	}
}
