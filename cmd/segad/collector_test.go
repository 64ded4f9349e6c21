package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestCollectorPace(t *testing.T) {
	const mebibyte = 1 << 20
	for name, c := range map[string]struct {
		live, allocated uint64
		since           time.Duration
		want            int
	}{
		"idle":                        {5 * mebibyte, 0, 2 * time.Minute, 100},
		"keystrokes":                  {5 * mebibyte, 5 * mebibyte, time.Minute, 100},
		"handshakes":                  {10 * mebibyte, 10 * mebibyte, time.Second, 100},
		"bulk":                        {8 * mebibyte, 8 * mebibyte, 30 * time.Millisecond, 400},
		"bulk, already at this pace":  {8 * mebibyte, 32 * mebibyte, 120 * time.Millisecond, 400},
		"bulk beside a thousand idle": {130 * mebibyte, 130 * mebibyte, 500 * time.Millisecond, 100},
		"bulk, hardly anything lives": {mebibyte, 4 * mebibyte, 10 * time.Millisecond, 1000},
		"nothing lives":               {0, 4 * mebibyte, 10 * time.Millisecond, 1000},
		"no time has passed":          {8 * mebibyte, 8 * mebibyte, 0, 400},
	} {
		t.Run(name, func(t *testing.T) {
			if got := percent(spareBastion, c.live, c.allocated, c.since); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

// TestCollectorFollows: with bulk the process collects less often, and soon after it as before.
func TestCollectorFollows(t *testing.T) {
	t.Setenv("GOGC", "")
	usual := debug.SetGCPercent(usualPercent)
	defer debug.SetGCPercent(usual)
	now := func() int { p := debug.SetGCPercent(usualPercent); debug.SetGCPercent(p); return p }
	stop := relaxCollector(spareBastion)
	defer stop()
	var packet []byte
	for from := time.Now(); now() == usualPercent; {
		if time.Since(from) > time.Minute {
			t.Fatal("the pace has stayed as it was")
		}
		for range 1000 {
			packet = make([]byte, 128<<10) // on no stack
		}
	}
	runtime.KeepAlive(packet)
	for from := time.Now(); now() != usualPercent; time.Sleep(10 * time.Millisecond) {
		if time.Since(from) > time.Minute {
			t.Fatal("the pace has stayed a bulk's")
		}
		runtime.GC()
	}
}
