package bastion

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStreamBuffer: a busy stream reads into a large buffer, and none waits with one: what did not fill it was all.
func TestStreamBuffer(t *testing.T) {
	const small, packet, bulk = smallBuffer, packetBuffer, bulkBuffer
	for name, tc := range map[string]struct {
		reads []int
		want  []int // lengths of the buffers after them
	}{
		"keystrokes":        {[]int{1, 80, 2000}, []int{small, small, small}},
		"a burst":           {[]int{small, bulk, bulk, 100_000}, []int{bulk, bulk, bulk, packet}},
		"its little end":    {[]int{small, bulk, 700}, []int{bulk, bulk, small}},
		"a stream goes on":  {[]int{small, 40_000, packet, bulk, 9_000, packet - 1}, []int{bulk, packet, bulk, bulk, packet, packet}},
		"calm after a wait": {[]int{small, 40_000, 1}, []int{bulk, packet, small}},
		"exactly a packet":  {[]int{small, packet, packet, 0}, []int{bulk, packet, bulk, small}},
	} {
		t.Run(name, func(t *testing.T) {
			var spare sync.Pool
			b := newStreamBuffer(&spare)
			var got []int
			for _, n := range tc.reads {
				if b.read(n); len(b.now) > packet && b.bulk == nil {
					t.Fatal("a large buffer that nobody gets back")
				}
				got = append(got, len(b.now))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if b.release(); b.bulk != nil {
				t.Error("not given back")
			}
		})
	}
}
