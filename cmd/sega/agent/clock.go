package agent

import (
	"sync"
	"time"
)

// clock tells the broker's time, and whether the feed lives. The laptop's own clock may be hours off,
// jump, and stand still in sleep: only how much of it has passed since the last heartbeat counts, and of
// wall clock and monotonic clock the one by which more has passed.
type clock struct {
	read func() reading

	mu     sync.Mutex
	at     reading // when the broker's time was told last
	broker time.Time
	lease  time.Duration
}

// reading is the laptop's clock: by the wall, and what has passed since some moment.
type reading struct {
	wall  time.Time
	ticks time.Duration
}

// laptop reads the clock of this machine.
func laptop() func() reading {
	from := time.Now()
	return func() reading {
		now := time.Now()
		return reading{wall: now.Round(0), ticks: now.Sub(from)}
	}
}

// late is how old a heartbeat may be when it is read.
const late = 5 * time.Second

// set takes the broker's word on its time, and on how long that holds; not if it has lain unread, as in a
// laptop that slept: then it was true once. The first one of a connection was asked for just now.
func (c *clock) set(broker time.Time, lease time.Duration, first bool) bool {
	now := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !first && broker.Before(c.broker.Add(c.passed(now)-late)) {
		return false
	}
	c.at, c.broker, c.lease = now, broker, lease
	return true
}

// lost ends the lease before its time: what comes next asks the broker.
func (c *clock) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lease = 0
}

// now is the broker's time; before its first word the laptop's.
func (c *clock) now() time.Time {
	now := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broker.IsZero() {
		return now.wall
	}
	return c.broker.Add(c.passed(now))
}

// leased reports whether the feed lives, or would have been missed by now.
func (c *clock) leased() bool {
	now := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.broker.IsZero() && c.passed(now) < c.lease
}

func (c *clock) passed(now reading) time.Duration {
	return max(now.wall.Sub(c.at.wall), now.ticks-c.at.ticks)
}
