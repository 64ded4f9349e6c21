package main

import "testing"

func TestBurst(t *testing.T) {
	const mebibyte = 1 << 20
	b := burst{}
	for i, second := range []struct {
		allocated uint64 // in it
		over      bool
	}{{30 * mebibyte, false}, {5 * mebibyte, false}, {mebibyte, true}, {mebibyte, false}, {0, false}, {10 * mebibyte, false}, {0, false}, {3 * mebibyte, false}, {2 * mebibyte, true}} {
		if got := b.over(b.at + second.allocated); got != second.over {
			t.Errorf("second %d: %v", i+1, got)
		}
	}
}
