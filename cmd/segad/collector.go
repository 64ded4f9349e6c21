package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	usualPercent = 100      // runtime/debug: garbage may gather to as much as what lives
	mostPercent  = 1000     // beyond it there is nothing to win
	spareBastion = 32 << 20 // what may gather while much is allocated,
	spareBroker  = 64 << 20 // and in a broker: collecting takes longer there, for more lives
	bulkRate     = 32 << 20 // bytes allocated in a second that are much: x/crypto/ssh makes a buffer for each packet
)

// collector lets garbage gather to spare bytes in a process that lives on little and moves much: at the usual
// pace a bastion with a few sessions would collect 250 times a GiB, and a broker would spend a tenth of its processor time so. Where little
// is allocated, and where more than spare lives, the pace is the usual one.
type collector struct {
	spare     uint64
	now       func() time.Time
	stopped   atomic.Bool
	at        time.Time // of the last collection
	allocated uint64    // until then
}

// relaxCollector sets the pace after each collection until stop is called. Whoever has set GOGC has set the pace.
func relaxCollector(spare uint64) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	c := &collector{spare: spare, now: time.Now}
	c.at, c.allocated = c.now(), readHeap().allocated
	c.await()
	return func() { c.stopped.Store(true) }
}

// await has pace called after the next collection, which finds that nobody refers to the sentinel.
func (c *collector) await() {
	runtime.AddCleanup(&struct{ of *collector }{c}, (*collector).pace, c)
}

func (c *collector) pace() {
	if c.stopped.Load() {
		return
	}
	now, h := c.now(), readHeap()
	debug.SetGCPercent(percent(c.spare, h.live, h.allocated-c.allocated, now.Sub(c.at)))
	c.at, c.allocated = now, h.allocated
	c.await()
}

// percent is the pace where live bytes were left and allocated ones have come since the collection before.
func percent(spare, live, allocated uint64, since time.Duration) int {
	if float64(allocated) < bulkRate*since.Seconds() {
		return usualPercent
	}
	return int(min(max(usualPercent, spare*100/max(live, 1)), mostPercent))
}

// heap is what the runtime knows without stopping anything.
type heap struct{ live, allocated uint64 }

func readHeap() heap {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return heap{live: s[0].Value.Uint64(), allocated: s[1].Value.Uint64()}
}
