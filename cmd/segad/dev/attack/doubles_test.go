//go:build linux

package attack

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"sega/audit"
	"sega/audit/store"
	"sega/broker"
	"sega/broker/awssts"
)

// slowMinter is AWS, which answers when the test lets it.
type slowMinter struct {
	next broker.Minter

	mu   sync.Mutex
	gate func() // runs when AWS has made the session and before its answer arrives
}

func (m *slowMinter) Assume(ctx context.Context, r awssts.Request) (awssts.Result, error) {
	result, err := m.next.Assume(ctx, r)
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	if gate != nil {
		gate()
	}
	return result, err
}

func (m *slowMinter) AssumeFrom(ctx context.Context, before awssts.Result, r awssts.Request) (awssts.Result, error) {
	result, err := m.next.AssumeFrom(ctx, before, r)
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	if gate != nil {
		gate()
	}
	return result, err
}

func (m *slowMinter) set(gate func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate = gate
}

// faultyLog is the log, whose disk fails when the test says so.
type faultyLog struct {
	store.Log

	mu     sync.Mutex
	failAt int // the Append, counted from 1, that fails; 0: none
	calls  int
	before func(audit.Event) // runs before an event is appended, on the appending goroutine
}

func (l *faultyLog) Append(ctx context.Context, events []audit.Event, apply func(context.Context, store.Tx) error) (int64, error) {
	l.mu.Lock()
	l.calls++
	fail, before := l.failAt == l.calls, l.before
	l.mu.Unlock()
	for _, e := range events {
		if before != nil {
			before(e)
		}
	}
	if fail {
		return 0, fmt.Errorf("%w: database or disk is full", store.ErrUnavailable)
	}
	return l.Log.Append(ctx, events, apply)
}

// arm makes the n-th append from now fail, none for 0.
func (l *faultyLog) arm(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failAt, l.calls = n, 0
}

// on lets something happen once, in the last moment before an event of a kind and outcome is appended.
func (l *faultyLog) on(kind string, outcome audit.Outcome, happen func()) {
	var happened atomic.Bool // not sync.Once: what happens may append an event of that kind itself
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = func(e audit.Event) {
		if e.Kind == kind && e.Outcome == outcome && !happened.Swap(true) {
			happen()
		}
	}
}

// fired reports whether the append that was to fail has come.
func (l *faultyLog) fired() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failAt > 0 && l.calls >= l.failAt
}
