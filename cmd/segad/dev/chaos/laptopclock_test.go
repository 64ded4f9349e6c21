//go:build linux

package chaos

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// clocked is a laptop whose clock jumps when a file says so, under an agent that runs.
func (r *rig) clocked(t *testing.T, withAgent bool) (l *laptop, jump func(seconds string)) {
	t.Helper()
	l = r.laptop(t, "alice@example.com", withAgent)
	jump = l.onClock(t)
	l.does(t, "login")
	return l, jump
}

// onClock gives a laptop that clock, which is right until it jumps.
func (l *laptop) onClock(t *testing.T) (jump func(seconds string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clock")
	jump = func(seconds string) { // whole, under whoever reads it
		writeFile(t, file+".new", []byte(seconds))
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	jump("0")
	l.env = append(l.env, clockVar+"="+file)
	l.program = wrongClock(t)
	return jump
}

// hasFeed waits until the agent follows the broker's feed.
func (l *laptop) hasFeed(t testing.TB) {
	t.Helper()
	devtest.Eventually(t, atOnce, "the feed does not come back", func() error {
		if o := l.run("agent", "status"); !containsAll(o.Out, "feed", "live") {
			return errors.New(o.Out + o.Err)
		}
		return nil
	})
}

// worksAt makes sure that the clock's jump changes nothing: what was handed out first goes on being handed out.
func (l *laptop) worksAt(t testing.TB, seconds string, first credentials) {
	t.Helper()
	if again := l.credentials(t); again.AccessKeyId != first.AccessKeyId {
		t.Errorf("after a jump to %s s other credentials are handed out", seconds)
	}
	l.works(t)
}

// TestClockJumps has the clock jump by two hours each way, with an agent that runs and without: what was handed out
// goes on being handed out, nothing is asked of AWS for it, and what lasts so long is by the broker's clock.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	r, _ := newLaptops(t, func(r *rig) { r.oldCertificate() })
	for name, withAgent := range days {
		t.Run(name, func(t *testing.T) {
			l, jump := r.clocked(t, withAgent)
			l.works(t)
			first, before := l.credentials(t), l.assumed(t)
			for _, seconds := range []string{"7200", "0", "-7200", "7200", "-7200", "0"} {
				jump(seconds)
				l.worksAt(t, seconds, first)
				if withAgent {
					l.hasFeed(t)
				}
			}
			if n := l.assumed(t) - before; n != 0 {
				t.Errorf("%d sessions at AWS for jumps of the clock", n)
			}
			for _, seconds := range []string{"7200", "-7200"} {
				jump(seconds)
				l.does(t, "exec", "dev-admin", "--need", "30m", "--", "true")
				l.fails(t, failure{3, "are needed", "", atOnce}, "exec", "dev-admin", "--env", "--need", "100m", "--", "true")
			}
		})
	}
}
