package bastion

import (
	"bytes"
	"testing"
)

// TestQueueKeepsWhatIsWritten: whatever queue a write finds, small, shared or outgrown, its bytes are behind those
// that wait, and what is released is no longer than a connection may hold.
func TestQueueKeepsWhatIsWritten(t *testing.T) {
	var b buffers
	for name, sizes := range map[string][]int{
		"nothing":           {0},
		"keystrokes":        {1, 1, 1},
		"packets":           {4096, 28 << 10, 4096, 28 << 10},
		"fills":             {maxPending - 1, 64<<10 + 1},
		"outgrows":          {maxPending - 1, 64<<10 + 2, 1},
		"larger than any":   {2 * sharedBuffer},
		"keeps its own":     {keepBuffer},
		"no longer its own": {keepBuffer, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var queued []byte
			for range 3 { // with what the turn before has left
				var want []byte
				queued = queued[:0]
				for i, n := range sizes {
					p := bytes.Repeat([]byte{byte(i + 1)}, n)
					queued, want = b.extend(queued, p), append(want, p...)
				}
				if !bytes.Equal(queued, want) {
					t.Fatal("bytes were lost or moved")
				}
				if queued = b.release(queued); len(queued) != 0 || cap(queued) > keepBuffer {
					t.Fatalf("an idle connection keeps %d bytes", cap(queued))
				}
			}
		})
	}
}

// TestBusyQueueDoesNotAllocate: a stream of packets is queued in what the ones before were queued in.
func TestBusyQueueDoesNotAllocate(t *testing.T) {
	var b buffers
	var queued []byte
	packet := make([]byte, 32<<10)
	run := func() {
		for range 4 {
			queued = b.extend(queued, packet)
		}
		queued = b.release(queued)
	}
	if n := testing.AllocsPerRun(200, run); n > 0.5 { // the collector may empty the pool once in a while
		t.Errorf("%g allocations for four packets", n)
	}
}
