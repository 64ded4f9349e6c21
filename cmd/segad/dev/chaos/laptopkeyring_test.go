//go:build linux

package chaos

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
	"sega/keychain/bustest"
)

// desktop is a session bus of the test's own, with Debian's gnome-keyring on it.
type desktop struct {
	t      *testing.T
	env    []string
	daemon *exec.Cmd
}

func newDesktop(t *testing.T) *desktop {
	t.Helper()
	devtest.Need(t, "dbus-daemon", "dbus-send", "gnome-keyring-daemon")
	d := &desktop{t: t, env: []string{"SEGA_KEYRING_BACKEND=secret-service"}}
	for k, v := range bustest.Start(t).Env {
		d.env = append(d.env, k+"="+v)
	}
	d.start()
	return d
}

func (d *desktop) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), d.env...)
	return c
}

func finish(c *exec.Cmd) {
	_ = c.Process.Kill()
	_ = c.Wait()
}

// start starts the daemon with its keyring unlocked, as a login at the desktop does.
func (d *desktop) start() {
	d.t.Helper()
	c := d.command("gnome-keyring-daemon", "--foreground", "--components=secrets", "--unlock")
	c.Stdin = strings.NewReader("horse")
	if err := c.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.daemon = c
	d.t.Cleanup(func() { finish(c) })
	devtest.Eventually(d.t, 20*time.Second, "the keyring is not unlocked", func() error {
		out, err := d.send("org.freedesktop.DBus.Properties.Get", "/org/freedesktop/secrets/collection/login", "string:org.freedesktop.Secret.Collection", "string:Locked")
		if err == nil && !strings.Contains(out, "boolean false") {
			err = errors.New(out)
		}
		return err
	})
}

func (d *desktop) send(method, object string, args ...string) (string, error) {
	out, err := d.command("dbus-send", append([]string{"--session", "--print-reply", "--dest=org.freedesktop.secrets", object, method}, args...)...).CombinedOutput()
	return string(out), err
}

func (d *desktop) lock() {
	d.t.Helper()
	if out, err := d.send("org.freedesktop.Secret.Service.Lock", "/org/freedesktop/secrets", "array:objpath:/org/freedesktop/secrets/collection/login"); err != nil {
		d.t.Fatalf("%v\n%s", err, out)
	}
}

// restart is what unlocks it again.
func (d *desktop) restart() {
	d.t.Helper()
	finish(d.daemon)
	d.start()
}

func (d *desktop) signal(s syscall.Signal) {
	d.t.Helper()
	if err := d.daemon.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}

// keyless makes sure of what a keyring that gives nothing costs: nothing with an agent that runs, which holds the
// session itself, and everything without.
func keyless(t testing.TB, with, without *laptop, fails failure) {
	t.Helper()
	with.credentials(t)
	with.does(t, "credential-process", "dev-admin", "-d", "25m")
	with.does(t, "exec", "dev-admin", "--", "true")
	with.does(t, "status")
	without.failsAll(t, fails, [][]string{{"credential-process", "dev-admin"}, {"exec", "dev-admin", "--", "true"}, {"status"}, {"login"}})
}

// TestKeyringLocks locks the keyring, and stops it in its tracks: an agent that runs goes on, everybody else is told
// within seconds what is the matter.
func TestKeyringLocks(t *testing.T) {
	t.Parallel()
	r, _ := newLaptops(t, nil)
	d := newDesktop(t)
	for harm, h := range map[string]struct {
		do, undo func()
		says     string
	}{
		"locked":  {d.lock, d.restart, "locked"},
		"stopped": {func() { d.signal(syscall.SIGSTOP) }, func() { d.signal(syscall.SIGCONT) }, "does not answer"},
		"gone":    {func() { finish(d.daemon) }, d.start, "does not run"},
	} {
		t.Run(harm, func(t *testing.T) {
			with, without := r.loggedIn(t, "alice@example.com", true, d.env...), r.loggedIn(t, "alice@example.com", false, d.env...)
			with.works(t)
			without.works(t)
			h.do()
			fails := failure{1, h.says, "unlock or restart", atOnce}
			keyless(t, with, without, fails)
			pid := with.agentPID(t)
			_ = syscall.Kill(pid, syscall.SIGKILL)
			with.fails(t, fails, "credential-process", "dev-admin")
			h.undo()
			with.works(t)
			without.works(t)
		})
	}
}

// TestPassphraseWithoutTerminal: where a passphrase must be asked for and nobody is there, that is said.
func TestPassphraseWithoutTerminal(t *testing.T) {
	t.Parallel()
	r, _ := newLaptops(t, nil)
	for name, withAgent := range days {
		t.Run(name, func(t *testing.T) {
			l := r.laptop(t, "alice@example.com", withAgent, "SEGA_KEYRING_BACKEND=passphrase")
			l.fails(t, failure{1, "passphrase", "", atOnce}, "login")
			l.whole(t)
		})
	}
}
