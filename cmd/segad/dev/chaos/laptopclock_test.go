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
	file := filepath.Join(t.TempDir(), "clock")
	jump = func(seconds string) { // whole, under whoever reads it
		writeFile(t, file+".new", []byte(seconds))
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	jump("0")
	l = r.laptop(t, "alice@example.com", withAgent, clockVar+"="+file)
	l.program = wrongClock(t)
	l.does(t, "login")
	return l, jump
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
				if again := l.credentials(t); again.AccessKeyId != first.AccessKeyId {
					t.Errorf("after a jump to %s s other credentials are handed out", seconds)
				}
				l.works(t)
				if withAgent {
					devtest.Eventually(t, atOnce, "the feed does not come back", func() error {
						if o := l.run("agent", "status"); !containsAll(o.Out, "feed", "live") {
							return errors.New(o.Out + o.Err)
						}
						return nil
					})
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
