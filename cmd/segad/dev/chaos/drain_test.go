//go:build linux

package chaos

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"sega/audit"
	"sega/cmd/segad/config"
	"sega/cmd/segad/dev/devtest"
	"sega/cmd/segad/dev/freeport"
)

const secondBastion = "second-bastion"

// startSecond adds a bastion to the rig's, with a name, a folder and an address of its own.
func (r *rig) startSecond(bfile config.BastionServer) *server {
	r.t.Helper()
	raw, err := yaml.Marshal(bfile)
	if err != nil {
		r.t.Fatal(err)
	}
	writeFile(r.t, r.path("second.yaml"), raw)
	s := &server{t: r.t, argv: []string{filepath.Join(r.Bin, "segad"), "bastion", "--config", r.path("second.yaml")}, log: r.path("log", "second.log")}
	s.start()
	r.t.Cleanup(func() {
		if code := s.stop(); code != 0 {
			r.t.Errorf("the second bastion: exit %d\n%s", code, s.tail(2000))
		}
	})
	devtest.Eventually(r.t, 20*time.Second, "the second bastion does not follow the feed", func() error {
		body, err := r.get("/metrics")
		if err == nil && !strings.Contains(body, "\nsega_feeds 2") {
			err = errors.New("sega_feeds is not 2")
		}
		return err
	})
	return s
}

// TestDrainToASecondBastion restarts a bastion under a session: that one goes on, whoever comes meanwhile
// goes to the second, by sega ssh and by the configured block, and nobody is refused.
func TestDrainToASecondBastion(t *testing.T) {
	var second config.BastionServer
	drain := time.Minute
	r := startRig(t, func(r *rig) {
		second = r.bfile
		second.Name, second.Listen, second.Data, second.JoinToken = secondBastion, freeport.Address(freeport.For(t)), r.path("second"), r.path(secondBastion+".join")
		r.bfile.Drain, second.Drain = &drain, new(time.Duration)
		writeFile(t, second.JoinToken, []byte("sega_join_chaos_second\n"))
		r.file.Bastions = append(r.file.Bastions[:1:1], config.Bastion{Name: secondBastion, Address: second.Listen, Egress: []string{"127.0.0.1/32"}, JoinToken: second.JoinToken})
	})
	r.startSecond(second)
	alice := r.LoggedIn("alice@example.com")
	block := alice.Sega("configure", "--ssh", "--print")
	if block.Code != 0 {
		t.Fatalf("%+v", block)
	}
	conf := filepath.Join(t.TempDir(), "config")
	writeFile(t, conf, []byte(block.Out))
	member, _ := r.login("bob@example.com", nil)
	id := mustCertify(t, member)
	quiet := r.mustOpen(id, "cat", true)
	quiet.answers(t, "before")
	r.bastion.signal(syscall.SIGTERM)
	devtest.Eventually(t, 10*time.Second, "the person is not told", func() error {
		if !strings.Contains(quiet.errs.text(), "the bastion restarts and ends this session at") {
			return errors.New(quiet.errs.text())
		}
		return nil
	})
	for range 3 {
		for what, got := range map[string]devtest.Result{
			"sega ssh":     alice.Sega("ssh", r.Host.Login+"@"+hostName, "--", "echo", "here"),
			"ssh -F block": alice.Run("ssh", "-F", conf, hostName, "echo", "here"),
		} {
			if got.Code != 0 || got.Out != "here\n" {
				t.Errorf("%s while the first bastion drains: %+v", what, got)
			}
		}
	}
	quiet.answers(t, "still-here")
	if !r.bastion.running() {
		t.Fatal("the bastion has ended under a session")
	}
	_ = quiet.client.Close()
	devtest.Eventually(t, 10*time.Second, "the bastion does not end", func() error {
		if r.bastion.running() {
			return errors.New("it runs")
		}
		return nil
	})
	if code := r.bastion.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit %d\n%s", code, r.bastion.tail(2000))
	}
	r.drained(t, id)
}

// drained judges the log: whose session was where, that each ended as its person wanted, and that the
// drain is an event.
func (r *rig) drained(t *testing.T, quiet identity) {
	t.Helper()
	book := newBook()
	_, end := r.awaitSessionEnd(quiet, book)
	if end.Outcome != audit.Success || end.Node != bastionName {
		t.Errorf("the old session's end is %s at %s: %s", end.Outcome, end.Node, end.Reason)
	}
	if _, err := book.read(r.source(), newLedger()); err != nil {
		t.Fatal(err)
	}
	at, drains := map[string]int{}, 0
	for _, e := range book.events {
		switch {
		case e.Kind == "session.start" && e.Outcome == audit.Success:
			at[e.Node]++
		case e.Kind == "session.start":
			t.Errorf("refused at %s: %s", e.Node, e.Reason)
		case e.Kind == audit.KindBastionDrain:
			drains++
		}
	}
	if at[bastionName] != 1 || at[secondBastion] != 6 || drains != 1 {
		t.Errorf("sessions started at %v, %d drains", at, drains)
	}
}

// answers is echo on a terminal, which writes a line's end in its own way.
func (s *shell) answers(t *testing.T, line string) {
	t.Helper()
	if _, err := s.in.Write([]byte(line + "\r")); err != nil {
		t.Fatalf("type %q: %v; the person reads %q", line, err, s.errs.text())
	}
	devtest.Eventually(t, 10*time.Second, "no echo", func() error {
		if strings.Count(s.out.text(), line) < 2 { // of the terminal, and of cat
			return errors.New(line + " is missing")
		}
		return nil
	})
}
