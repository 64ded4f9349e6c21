package main

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	calmRate  = 4 << 20  // bytes allocated in a second that are little
	burstLeft = 16 << 20 // allocated in seconds that were not calm, of which something may be left
)

// burst knows whether a process that was busy has calmed down. What a calm one allocates, second by second, never counts:
// giving memory back holds everybody up.
type burst struct{ at, left uint64 } // bytes allocated: until the last second, and in seconds that were not calm

// over reports whether the second that has passed was the first calm one after a burst.
func (b *burst) over(allocated uint64) bool {
	second := allocated - b.at
	b.at = allocated
	if second >= calmRate {
		b.left += second
		return false
	}
	over := b.left >= burstLeft
	b.left = 0
	return over
}

// giveBack collects what a burst (of bulk, or of people who come in at nine) has left and gives its memory back to the system, in the
// first calm second. The runtime alone would do so minutes later, and most of a bastion's day nothing happens.
func giveBack(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	b := burst{at: readHeap().allocated}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if b.over(readHeap().allocated) {
			debug.FreeOSMemory()
		}
	}
}
