//go:build linux

package chaos

import (
	"path/filepath"
	"syscall"
	"testing"
)

// badDay is one session of one person, to whose laptop everything happens.
type badDay struct {
	t     *testing.T
	rig   *rig
	line  *line
	with  *laptop // as it is used
	other *laptop // another shell on the same home, whose commands ask no agent
	disk  string
	desk  *desktop
	jump  func(seconds string)
	agent int // its process
}

// TestBadDay has the harms follow each other in one session, with one SEGA_HOME and one agent for as long as that
// lives: each costs what it costs alone, and leaves nothing to the next.
//
// A running agent hides a locked keyring and most of a full disk: that these are told is seen in a second shell.
func TestBadDay(t *testing.T) {
	t.Parallel()
	d := newBadDay(t)
	d.well("the login")
	for _, harm := range []struct {
		name string
		does func()
	}{
		{"the network dies", d.network}, {"the broker restarts", d.brokerRestarts}, {"the clock jumps", d.clock},
		{"the keyring locks", d.keyring}, {"the disk fills", d.fullDisk}, {"the agent is killed", d.killedAgent},
	} {
		harm.does()
		d.well(harm.name)
	}
	d.evening()
}

// newBadDay is its morning: a login with the key in the desktop's keyring, and the home on a small disk.
func newBadDay(t *testing.T) *badDay {
	t.Helper()
	r, n := newLaptops(t, func(r *rig) { r.oldCertificate() })
	d := &badDay{t: t, rig: r, line: n, desk: newDesktop(t)}
	d.with = r.laptop(t, "alice@example.com", true, d.desk.env...)
	d.disk, _ = d.with.onDisk(t)
	d.jump = d.with.onClock(t)
	d.other = d.with.withoutAgent()
	d.with.does(t, "login")
	d.with.works(t)
	d.agent = d.with.agentPID(t)
	return d
}

// well makes sure that all is as it was before a harm, with the same agent.
func (d *badDay) well(after string) {
	d.t.Helper()
	d.with.works(d.t)
	d.with.does(d.t, "exec", "dev-admin", "--", "true")
	d.with.hasFeed(d.t)
	if now := d.with.agentPID(d.t); now != d.agent || now == 0 {
		d.t.Errorf("after %s the agent is process %d, it was %d", after, now, d.agent)
	}
	if d.t.Failed() {
		d.t.Fatalf("the day ends with this: %s\n%s", after, usage(d.disk))
	}
}

func (d *badDay) network() {
	d.line.is(cut)
	defer d.line.is(through)
	d.with.failsAll(d.t, unreached(), asking(20))
}

func (d *badDay) brokerRestarts() {
	d.rig.broker.stop()
	d.with.failsAll(d.t, unreached(), asking(45))
	d.rig.startBroker()
}

func (d *badDay) clock() {
	first := d.with.credentials(d.t)
	for _, seconds := range []string{"7200", "0", "-7200", "0"} {
		d.jump(seconds)
		d.with.worksAt(d.t, seconds, first)
		d.with.hasFeed(d.t)
	}
}

func (d *badDay) keyring() {
	d.desk.lock()
	defer d.desk.restart()
	keyless(d.t, d.with, d.other, failure{1, "locked", "unlock or restart", atOnce})
}

func (d *badDay) fullDisk() {
	defer fill(d.t, d.disk)()
	fails := failure{1, "no space left on device", "free the disk", atOnce}
	d.with.cannotWrite(d.t, true, fails)
	d.with.does(d.t, "status")
	d.other.cannotWrite(d.t, false, fails)
	// The log has grown by what the agent was given: this shell sees that, and cannot keep it.
	d.other.fails(d.t, failure{1, fails.says, "disk", atOnce}, "status")
}

// killedAgent kills it with a question in its hands.
func (d *badDay) killedAgent() {
	d.t.Helper()
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(d.agent, s); err != nil {
			d.t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	c := d.with.start("credential-process", "dev-admin")
	awaitAsking(d.t, c)
	signal(syscall.SIGKILL)
	d.with.outlives(d.t, c)
	d.with.worksAnew(d.t, d.agent)
	d.agent = d.with.agentPID(d.t)
}

// evening makes sure of what the day leaves: a session that ends, nothing of its own on the disk, a whole log, and
// no session at AWS that nobody needed.
func (d *badDay) evening() {
	d.t.Helper()
	d.other.does(d.t, "status") // which opens the sealed file
	d.with.does(d.t, "logout")
	for _, l := range []*laptop{d.with, d.other} {
		l.fails(d.t, failure{4, "not logged in", "sega login", atOnce}, "exec", "dev-admin", "--", "true")
	}
	d.with.whole(d.t)
	if moved, err := filepath.Glob(filepath.Join(d.with.Home, "secrets", "*.aside-*")); err != nil || len(moved) > 0 {
		d.t.Errorf("moved aside: %v, %v", moved, err)
	}
	verify(d.rig.With(d.t).LoggedIn("carol@example.com"))
	// The day's own, one for each other duration that was asked for under keyring and disk, and the second agent's.
	if n := d.rig.AssumeRoles(); n != 4 {
		d.t.Errorf("%d AssumeRole, want 4", n)
	}
}
