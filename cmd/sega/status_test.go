package main

import "testing"

func TestSpan(t *testing.T) {
	for seconds, want := range map[int]string{0: "0s", 900: "15m", 3600: "1h", 5400: "1h30m", 43200: "12h", 3601: "1h0m1s", 610: "10m10s", 36000: "10h", 600: "10m"} {
		if got := span(seconds); got != want {
			t.Errorf("%d: %q, want %q", seconds, got, want)
		}
	}
}
