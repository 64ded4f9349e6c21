package main

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	calmRate  = 4 << 20  // bytes allocated in a second that are little
	burstLeft = 16 << 20 // allocated since memory was given back last, that may have left something
)

// burst knows whether a process that was busy has calmed down.
type burst struct{ at, given uint64 } // bytes allocated: until the last second, and until memory was given back

// over reports whether the second that has passed was calm, and follows ones that were not.
func (b *burst) over(allocated uint64) bool {
	calm := allocated-b.at < calmRate
	b.at = allocated
	if !calm || allocated-b.given < burstLeft {
		return false
	}
	b.given = allocated
	return true
}

// giveBack collects what a burst (of bulk, or of people who come in at nine) has left and gives its memory back to the system, in the
// first calm second. The runtime alone would do so minutes later, and most of a bastion's day nothing happens.
func giveBack(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	b := burst{}
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
