package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"sega/broker/api"
)

// TestWithNext: what the broker says to do next stands in the log of a machine that cannot go on without it.
func TestWithNext(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"a hint":           {fmt.Errorf("open: %w", api.Errorf(api.KindConflict, "restored").WithHint("restart with --accept-new-log")), `error="open: restored" next="restart with --accept-new-log"`},
		"none":             {api.Errorf(api.KindConflict, "restored"), "error=restored\n"},
		"no answer at all": {errors.New("refused"), "error=refused\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			slog.New(slog.NewTextHandler(&out, nil)).Warn("x", withNext(c.err)...)
			if !strings.Contains(out.String(), c.want) {
				t.Errorf("%s lacks %s", &out, c.want)
			}
		})
	}
}
