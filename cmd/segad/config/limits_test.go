package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSize(t *testing.T) {
	for in, want := range map[string]int64{
		"1KiB": 1 << 10, "512MiB": 512 << 20, "1 GiB": 1 << 30, "2TiB": 2 << 40, "0MiB": 0,
		"512": -1, "1GB": -1, "-1MiB": -1, "MiB": -1, "1.5GiB": -1, "99999999TiB": -1, "hunter2": -1,
	} {
		var got struct {
			Reserve Size `yaml:"reserve"`
		}
		err := Parse([]byte("reserve: "+in+"\n"), &got)
		switch {
		case want < 0 && err == nil:
			t.Errorf("%s was taken as %d", in, got.Reserve)
		case want < 0 && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("the error quotes the value: %v", err)
		case want >= 0 && (err != nil || int64(got.Reserve) != want):
			t.Errorf("%s: %d, %v", in, got.Reserve, err)
		}
	}
}

func TestLadderStep(t *testing.T) {
	for in, want := range map[string]struct {
		do    string
		pause time.Duration
		err   bool
	}{
		"end": {do: "end"}, "refuse": {do: "refuse"}, "pause 30s": {do: "pause", pause: 30 * time.Second}, "pause 1m30s": {do: "pause", pause: 90 * time.Second},
		"pause": {do: "pause"}, "pause 30": {err: true}, "end 30s": {err: true}, "pause 30s then end": {err: true}, "": {},
	} {
		do, pause, err := LadderRule{Do: in}.Step()
		if diff := cmp.Diff([]any{want.do, want.pause, want.err}, []any{do, pause, err != nil}); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}
