//go:build linux

package e2e

import (
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// mostInit is what a package's initialisation may cost on the path of a warm credential-process.
const mostInit = 300 * time.Microsecond

// initRuns are so many that the least of each package is what it costs, and not what else the machine does.
const initRuns = 15

// testStart reads what the runtime says of each package's initialisation (GODEBUG=inittrace=1). sega is
// built as it ships: under the race detector everything is slower.
func testStart(t *testing.T, e *devtest.Env) {
	p := e.Person(alice)
	expect(t, p.Login(), 0)
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	sega := filepath.Join(t.TempDir(), "sega")
	if out, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", sega, "sega/cmd/sega").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	least := map[string]time.Duration{}
	for range initRuns {
		c := exec.Command(sega, "credential-process", "dev-admin")
		c.Env = append(p.Environ(), "GODEBUG=inittrace=1")
		var trace strings.Builder
		c.Stderr = &trace
		if out, err := c.Output(); err != nil || !strings.HasPrefix(string(out), `{"Version":1,`) {
			t.Fatalf("%v\n%s%s", err, out, &trace)
		}
		for line := range strings.Lines(trace.String()) {
			name, cost, ok := initCost(line)
			if !ok {
				t.Fatalf("not of the trace: %q", line)
			}
			if was, seen := least[name]; !seen || cost < was {
				least[name] = cost
			}
		}
	}
	if len(least) < 50 {
		t.Fatalf("the trace names %d packages alone: %v", len(least), slices.Sorted(maps.Keys(least)))
	}
	for name, cost := range least {
		if cost > mostInit {
			t.Errorf("%s takes %v to initialise", name, cost)
		}
	}
}

// initCost reads a line like "init net/http @1.2 ms, 0.021 ms clock, 4712 bytes, 14 allocs".
func initCost(line string) (name string, cost time.Duration, ok bool) {
	f := strings.Fields(line)
	if len(f) < 6 || f[0] != "init" || f[5] != "ms" {
		return "", 0, false
	}
	ms, err := strconv.ParseFloat(f[4], 64)
	return f[1], time.Duration(ms * float64(time.Millisecond)), err == nil
}
