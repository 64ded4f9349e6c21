//go:build linux

package chaos

import (
	"fmt"
	"syscall"
	"testing"
)

// TestAgentIsKilled kills the agent while it asks the broker for several at once: each is told, or answered, and the
// next command has an agent again.
func TestAgentIsKilled(t *testing.T) {
	t.Parallel()
	r, n := newLaptops(t, nil)
	l := r.loggedIn(t, "alice@example.com", true)
	l.works(t)
	for i := range max(3, times(30)) {
		pid := l.agentPID(t)
		n.is(silent)
		var asked []*command
		for _, j := range []int{0, 0, 1} {
			c := l.start("credential-process", "dev-admin", "-d", fmt.Sprintf("%dm", 20+2*i+j))
			asked = append(asked, c)
		}
		for _, c := range asked {
			awaitAsking(t, c)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		n.is(through)
		for _, c := range asked {
			l.outlives(t, c)
		}
		l.worksAnew(t, pid)
	}
}

// outlives waits for a credential-process whose agent was killed: it is answered, or says what is the matter.
func (l *laptop) outlives(t testing.TB, c *command) {
	t.Helper()
	o := l.end(c)
	l.clean(t, o, c.args)
	if first, below := message(o.Err); o.Code == 0 {
		l.given(t, o)
	} else if o.Code != 1 && o.Code != 7 || first == "" || below == "" || o.Out != "" {
		t.Errorf("under a killed agent: exit %d\n%s", o.Code, o.Err)
	}
	if o.took > aCall {
		t.Errorf("under a killed agent it took %s\n%s", o.took, o.Err)
	}
}

// worksAnew makes sure that everything works, with another agent than that of before.
func (l *laptop) worksAnew(t testing.TB, before int) {
	t.Helper()
	l.works(t)
	if now := l.agentPID(t); now == before || now == 0 {
		t.Errorf("the agent is process %d, it was %d", now, before)
	}
}
