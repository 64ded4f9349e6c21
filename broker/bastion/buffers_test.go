package bastion

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync"
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

// TestConnectionsKeepToThemselves: what one connection writes no other one sends, however they end, and is not changed once it is
// queued. Run it with -race: a buffer that is given back too early shows.
func TestConnectionsKeepToThemselves(t *testing.T) {
	var shared buffers
	var all sync.WaitGroup
	for n := 1; n <= 16; n++ {
		all.Go(func() {
			here, there := net.Pipe()
			c := newBufferedConn(here, &shared)
			all.Go(func() {
				sizes := rand.New(rand.NewPCG(0, uint64(n)))
				block := make([]byte, 64<<10)
				for range 60 {
					own := block[:1+sizes.IntN(len(block))]
					for i := range own {
						own[i] = byte(n)
					}
					_, err := c.Write(own)
					clear(own) // it is the caller's again
					if err != nil {
						break // aborted
					}
				}
				_ = c.Close()
			})
			got, left := make([]byte, 32<<10), math.MaxInt
			if n%4 == 0 {
				left = 1 << 20 // of a connection that is cut amid a transfer
			}
			for left > 0 {
				size, err := there.Read(got)
				if i := bytes.IndexFunc(got[:size], func(r rune) bool { return r != rune(n) }); i >= 0 {
					t.Errorf("connection %d has sent %d", n, got[i])
				}
				if left -= size; err == io.EOF {
					break
				} else if err != nil {
					t.Errorf("connection %d: %v", n, err)
					break
				}
			}
			if left <= 0 {
				c.Abort()
			}
			_ = there.Close()
		})
	}
	all.Wait()
}
