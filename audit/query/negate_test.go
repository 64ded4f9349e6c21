package query

import (
	"testing"
	"time"
)

func TestNegatesScreen(t *testing.T) {
	for text, want := range map[string]bool{
		`screen:secret`: false, `-screen:secret`: true, `user:a (kind:x or not screen:y)`: true, `-(user:a screen:y)`: true, `--screen:y`: true,
		`-user:a screen:y`: false, ``: false, `"screen:x" -user:b`: false,
	} {
		x, err := Parse(text, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if got := NegatesScreen(x); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
