package bastion

import "time"

// partTime is how long the hosts' connections stay open at most, severed, while the people are told.
const partTime = 200 * time.Millisecond

// cutting ends connections together, in three steps, so that the last of a thousand waits for no more than it must.
// First all are severed: nothing reaches a host any more. Then all people are told. Only then are the hosts' connections
// closed, and only after that seal, fsync, report and upload begin: a thousand of these take seconds.
//
// finish must be called.
type cutting struct {
	hit      []*live
	sessions int // that were not ending already
	until    time.Time
	done     chan struct{} // closed when every host's side is
}

// cut severs every live connection whose subject matches: sessions first, since an outer connection that ends takes its
// sessions with it, and for another reason.
func (r *registry) cut(match func(subject) bool, why endReason) *cutting {
	c := &cutting{hit: r.matching(match), done: make(chan struct{})}
	for _, l := range c.hit {
		if l.sever(why, c.done) && l.session {
			c.sessions++
		}
	}
	c.until = time.Now().Add(partTime)
	return c
}

// finish closes the hosts' sides once the people have been told, or cannot be in time, and returns how many sessions
// were cut.
func (c *cutting) finish() int {
	c.awaitParted()
	for _, l := range c.hit {
		if l.hangUp != nil {
			l.hangUp()
		}
	}
	close(c.done)
	return c.sessions
}

func (c *cutting) awaitParted() {
	late := time.NewTimer(time.Until(c.until))
	defer late.Stop()
	for _, l := range c.hit {
		if l.parted == nil {
			continue
		}
		select {
		case <-l.parted:
		case <-late.C:
			return
		}
	}
}
