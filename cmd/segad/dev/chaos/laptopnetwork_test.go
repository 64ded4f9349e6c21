//go:build linux

package chaos

import (
	"crypto/tls"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

func tlsConfig(r *rig) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(r.file.TLS.Certificate, r.file.TLS.Key)
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, err
}

// days are a person's ways to work.
var days = map[string]bool{"with the agent": true, "without": false}

// asking are the commands that need the broker: what they ask for was not asked for before.
func asking(minutes int) [][]string {
	d := func(more int) string { return fmt.Sprintf("-d%ds", minutes*60+more) } // one another's turn is nobody's here
	return [][]string{{"login"}, {"exec", "dev-admin", d(0), "--", "true"}, {"env", "dev-admin", d(1)}, {"credential-process", "dev-admin", d(2)}, {"status"}}
}

// unreached is how they fail where nothing listens.
func unreached() failure { return failure{7, "cannot be reached", "check the network", atOnce} }

// TestNetworkDies lets the network between a person and the broker break, be somebody else's, and come back.
func TestNetworkDies(t *testing.T) {
	t.Parallel()
	r, n := newLaptops(t, nil)
	minutes := 20
	for name, withAgent := range days {
		l := r.loggedIn(t, "alice@example.com", withAgent)
		l.works(t)
		for what, harm := range map[string]struct {
			state state
			want  failure
		}{
			"cut":     {cut, unreached()},
			"captive": {captive, failure{7, n.address(), "SEGA_BROKER", atOnce}},
			"garbled": {garbled, failure{7, "does not speak TLS", "check the network", atOnce}},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				n.is(harm.state)
				defer n.is(through)
				minutes++
				l.failsAll(t, harm.want, asking(minutes))
				n.is(through)
				l.works(t)
			})
		}
		t.Run(name+"/logout", func(t *testing.T) {
			n.is(cut)
			l.fails(t, failure{7, "forgotten on this machine, but the broker was not told", "check the network", atOnce}, "logout")
			n.is(through)
			l.fails(t, failure{4, "not logged in", "sega login", atOnce}, "exec", "dev-admin", "--", "true")
			l.does(t, "login")
			l.works(t)
		})
	}
}

// TestNetworkFallsSilent: nothing answers and nothing breaks. What is warm is given inside the lease, everything
// else ends after a while, or at once by Ctrl-C.
func TestNetworkFallsSilent(t *testing.T) {
	t.Parallel()
	r, n := newLaptops(t, nil)
	with, without := r.loggedIn(t, "alice@example.com", true), r.loggedIn(t, "alice@example.com", false)
	first := with.credentials(t)
	without.credentials(t)
	n.is(silent)
	defer n.is(through)
	if again := with.credentials(t); again.AccessKeyId != first.AccessKeyId {
		t.Error("inside the lease the warm answer is another one")
	}
	fell := time.Now()
	devtest.Eventually(t, 15*time.Second, "the agent does not notice", func() error {
		if time.Since(fell) < shortLease {
			return errNotNow
		}
		if o := with.run("agent", "status"); o.Code != 0 || !containsAll(o.Out, "lost") {
			return fmt.Errorf("exit %d: %s%s", o.Code, o.Out, o.Err)
		}
		return nil
	})
	var waiting []func()
	for _, l := range []*laptop{with, without} {
		for _, args := range asking(40) {
			interrupt(t, l, l.start(args...))
		}
		for _, args := range append(asking(20), []string{"credential-process", "dev-admin"}) {
			want := failure{7, "no answer in time", "check the network", aCall + atOnce}
			if args[0] == "credential-process" {
				want.within = processTime
			}
			running := l.start(args...)
			waiting = append(waiting, func() { l.failed(t, want, running) })
		}
	}
	for _, wait := range waiting {
		wait()
	}
	n.is(through)
	with.works(t)
	without.works(t)
}

// awaitAsking waits until a command has begun to ask somebody.
func awaitAsking(t *testing.T, c *command) {
	t.Helper()
	devtest.Eventually(t, atOnce, "sega asks nobody", func() error {
		select {
		case <-c.done:
			t.Fatalf("sega %v ended by itself: %s\n%s", c.args, c.ProcessState, &c.errs)
		default:
		}
		return asks(c.Process.Pid)
	})
}

// interrupt is Ctrl-C: it ends a command at once.
func interrupt(t *testing.T, l *laptop, c *command) {
	t.Helper()
	awaitAsking(t, c)
	at := time.Now()
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	o := l.end(c)
	if first, _ := message(o.Err); o.Code != 5 || !strings.HasSuffix(first, "cancelled") || time.Since(at) > 5*time.Second {
		t.Errorf("sega %v after Ctrl-C: exit %d after %s\n%s", c.args, o.Code, time.Since(at), o.Err)
	}
}

// TestBrokerRestarts: stopped, killed in the middle of a cold call, and started again.
func TestBrokerRestarts(t *testing.T) {
	t.Parallel()
	r, n := newLaptops(t, nil)
	for name, withAgent := range days {
		t.Run(name, func(t *testing.T) {
			l := r.loggedIn(t, "alice@example.com", withAgent)
			l.works(t)
			r.broker.stop()
			l.failsAll(t, unreached(), asking(45))
			r.startBroker()
			l.works(t)
			for i := range max(2, times(10)) {
				since := n.count()
				n.is(silent)
				c := l.start("credential-process", "dev-admin", "-d", fmt.Sprintf("%dm", 20+i))
				if !withAgent {
					n.awaitCall(since)
				}
				r.broker.kill()
				n.is(through)
				r.broker.start()
				o := l.end(c)
				l.clean(t, o, c.args)
				if first, below := message(o.Err); o.Code == 0 {
					l.given(t, o)
				} else if o.Code != 7 || first == "" || below == "" || o.Out != "" {
					t.Errorf("in the middle of a cold call: exit %d\n%s", o.Code, o.Err)
				}
				r.awaitBroker()
				l.works(t)
			}
		})
	}
}
