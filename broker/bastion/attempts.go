package bastion

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

const (
	wrongWindow = time.Minute
	wrongFree   = 30   // connections of a source that showed nothing valid, in a window, before it is held
	wrongKept   = 4096 // sources that are counted; of more, those whose window is oldest are forgotten
	heldTries   = 6    // keys that a connection of a held source may try
	heldTurns   = 4    // handshakes of held sources at a time, over all of them
	heldTurn    = time.Second
)

const reasonHeld = "too many wrong attempts: this source waits its turn"

// attempts hold back sources, addresses or a /64, from which too many connections showed nothing valid.
// They are not turned away, since an office has one address: their handshakes go one after the other, so
// that they take little from everybody else, and a signature that is valid makes the source like any
// other again.
type attempts struct {
	now   func() time.Time
	turns chan struct{}

	mu      sync.Mutex
	sources map[netip.Prefix]*wrong
}

// wrong is what a source has tried in its window.
type wrong struct {
	since time.Time
	count int
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, turns: make(chan struct{}, heldTurns), sources: map[netip.Prefix]*wrong{}}
}

// failed counts a connection that ended without a valid signature, and reports whether its source is held
// from now on.
func (a *attempts) failed(source netip.Addr) (held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	w := a.sources[network(source)]
	if w == nil || now.Sub(w.since) >= wrongWindow {
		if w == nil && len(a.sources) >= wrongKept {
			a.forget()
		}
		w = &wrong{since: now}
		a.sources[network(source)] = w
	}
	w.count++
	return w.count == wrongFree+1
}

// forget makes room by the source whose window began first; the caller holds mu.
func (a *attempts) forget() {
	var oldest netip.Prefix
	var at time.Time
	for p, w := range a.sources {
		if at.IsZero() || w.since.Before(at) {
			oldest, at = p, w.since
		}
	}
	delete(a.sources, oldest)
}

// signed forgives a source from which a valid signature came.
func (a *attempts) signed(source netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sources, network(source))
}

func (a *attempts) held(source netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.sources[network(source)]
	return w != nil && w.count > wrongFree && a.now().Sub(w.since) < wrongWindow
}

// turn waits until a connection of a source may begin its handshake: at once, unless it is held. A turn
// is given on after heldTurn, so that who stalls keeps nobody out. done ends it.
func (a *attempts) turn(ctx context.Context, source netip.Addr) (done func(), err error) {
	if !a.held(source) {
		return func() {}, nil
	}
	select {
	case a.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	end := sync.OnceFunc(func() { <-a.turns })
	timer := time.AfterFunc(heldTurn, end)
	return func() { timer.Stop(); end() }, nil
}
