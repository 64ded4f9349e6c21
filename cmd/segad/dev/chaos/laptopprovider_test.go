//go:build linux

package chaos

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// stopProvider stops what stands in for the identity provider (and for AWS) in its tracks, until it is let go.
func (r *rig) stopProvider(t *testing.T) (letGo func()) {
	t.Helper()
	out, err := exec.Command("pgrep", "-f", "segad dev up --data "+filepath.Dir(r.Data)+"$").Output()
	var pid int
	if err == nil {
		_, err = fmt.Sscan(string(out), &pid)
	}
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGSTOP)
	}
	if err != nil {
		t.Fatal(err)
	}
	letGo = func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	t.Cleanup(letGo)
	return letGo
}

// hour is what a session lasts without a renewal.
const hour = 5 * time.Second

// TestProviderDiesDuringRenewal: the session's hour is over while the identity provider does not answer. That is
// told as such, by the agent too, which ends no login for it.
func TestProviderDiesDuringRenewal(t *testing.T) {
	t.Parallel()
	r, _ := newLaptops(t, func(r *rig) { r.file.Session = hour })
	with, without := r.loggedIn(t, "alice@example.com", true), r.loggedIn(t, "alice@example.com", false)
	for _, l := range []*laptop{with, without} {
		l.works(t)
	}
	letGo := r.stopProvider(t)
	over := time.Now().Add(hour)
	devtest.Eventually(t, 2*hour, "the session does not end", func() error { // renewed just before, at the latest
		if time.Now().Before(over) {
			return errNotNow
		}
		return nil
	})
	var waiting []func()
	for _, l := range []*laptop{with, without} {
		for _, args := range [][]string{{"status"}, {"credential-process", "dev-admin"}, {"exec", "dev-admin", "--", "true"}} {
			c := l.start(args...)
			waiting = append(waiting, func() { l.failed(t, failure{7, "identity provider", "check the network", processTime}, c) })
		}
	}
	for _, wait := range waiting {
		wait()
	}
	letGo()
	with.works(t)
	without.works(t)
	for _, l := range []*laptop{with, without} {
		if o := l.run("status"); o.Code != 0 {
			t.Errorf("status: exit %d\n%s", o.Code, o.Err)
		}
	}
}
