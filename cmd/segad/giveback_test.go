package main

import "testing"

func TestBurst(t *testing.T) {
	const mebibyte = 1 << 20
	b := burst{}
	for i, second := range []struct {
		allocated uint64 // in it
		over      bool
	}{{30 * mebibyte, false}, {5 * mebibyte, false}, {mebibyte, true}, {mebibyte, false}, {10 * mebibyte, false}, {0, false}, {8 * mebibyte, false}, {8 * mebibyte, false}, {3 * mebibyte, true}} {
		if got := b.over(b.at + second.allocated); got != second.over {
			t.Errorf("second %d: %v", i+1, got)
		}
	}
}

// TestTrickleIsNoBurst: keystrokes all day have nobody stopped.
func TestTrickleIsNoBurst(t *testing.T) {
	b := burst{}
	for range 1000 {
		if b.over(b.at + calmRate - 1) {
			t.Fatal("a calm process was to give memory back")
		}
	}
}
