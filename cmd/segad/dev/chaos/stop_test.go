//go:build linux

package chaos

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sega/audit"
	"sega/broker/api"
	"sega/cmd/segad/dev/devtest"
)

// TestStopBroker ends the broker by SIGTERM under load, again and again: what was begun is
// answered, and nothing is left open. A session and the feed do not keep it from ending.
func TestStopBroker(t *testing.T) {
	r := startRig(t, nil)
	l, b := newLedger(), newBook()
	c := newCrowd(r, l, newMarks(t, r.bfile.LogKey))
	quiet := r.mustOpen(c.ids[0], "cat", false)
	rounds := max(4, times(40))
	var slowest time.Duration
	for range rounds {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		var s storm
		s.run(ctx, l, c.tasks())
		if !s.await(ctx, wantFlying) {
			t.Fatalf("never %d requests under way", wantFlying)
		}
		<-time.After(rand.N(maxLife)) // some stops come while everybody still connects
		start := time.Now()
		if code := r.broker.stop(); code != 0 {
			t.Errorf("exit %d\n%s", code, r.broker.tail(2000))
		}
		slowest = max(slowest, time.Since(start))
		s.wg.Wait()
		cancel()
		for _, err := range s.wrong {
			t.Errorf("a request was refused: %v", err)
		}
		p, err := b.read(r.source(), l)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.silent) > 0 || p.unknowns > 0 {
			t.Errorf("granted and not answered: %q; %d unknown", p.silent, p.unknowns)
		}
		b.check(t, l)
		b.settled(t)
		r.startBroker()
		quiet.echo(t, "after "+start.String())
	}
	if slowest > 15*time.Second { // an idle machine takes one
		t.Errorf("it took %s to end", slowest)
	}
	t.Logf("%d stops under load, the slowest took %s; %d answers received", rounds, slowest.Round(time.Millisecond), l.count())
}

// TestStopBastion ends the bastion by SIGTERM: every session ends with the reason and its
// recording is complete.
func TestStopBastion(t *testing.T) {
	r := startRig(t, nil)
	carol := r.LoggedIn("carol@example.com")
	alice, _ := r.login("alice@example.com", nil)
	quietID, loudID := mustCertify(t, alice), mustCertify(t, alice)
	quiet := r.mustOpen(quietID, "cat", true)
	loud := r.mustOpen(loudID, "while :; do echo line; sleep 0.01; done", false)
	devtest.Eventually(t, 10*time.Second, "nothing is printed", func() error { return loud.atLeast(20) })
	start := time.Now()
	if code := r.bastion.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, r.bastion.tail(2000))
	}
	t.Logf("the bastion ended in %s", time.Since(start).Round(time.Millisecond))
	book := newBook()
	for id, s := range map[*identity]*shell{&quietID: quiet, &loudID: loud} {
		s.awaitEnd(t, 5*time.Second)
		if !strings.Contains(s.errs.text(), "the bastion is shutting down") {
			t.Errorf("the person reads %q", s.errs.text())
		}
		session, end := r.awaitSessionEnd(*id, book)
		if end.Outcome != audit.Failure || !strings.Contains(end.Reason, "shutting down") {
			t.Errorf("session.end says %s, %s", end.Outcome, end.Reason)
		}
		if v := show(carol, session); v.Recording != "complete" {
			t.Errorf("audit show says %+v", v)
		}
		r.contains(s, session, carol)
	}
	r.spoolEmpty()
	verify(carol)
}

// TestReload changes the policy under a running broker: by SIGHUP at once, and a set that does not
// parse changes nothing but readiness (R8, I5).
func TestReload(t *testing.T) {
	r := startRig(t, func(r *rig) {
		copied := r.path("policy")
		if err := os.CopyFS(copied, os.DirFS(r.file.Policy)); err != nil {
			r.t.Fatal(err)
		}
		r.file.Policy = copied
	})
	sam := r.LoggedIn("sam@example.com")
	alice, _ := r.login("alice@example.com", nil)
	denied := func() error {
		_, err := alice.Credentials(context.Background(), api.CredentialsRequest{Role: "dev-admin"})
		return err
	}
	if err := denied(); err != nil {
		t.Fatal(err)
	}
	extra := filepath.Join(r.file.Policy, "extra.cedar")
	writeFile(t, extra, []byte("@id(\"nobody\")\nforbid (principal, action == Action::\"assume\", resource);\n"))
	r.broker.signal(syscall.SIGHUP)
	devtest.Eventually(t, 20*time.Second, "the new policy is not in force", func() error {
		err := denied()
		if p := api.AsProblem(err); err == nil || p.Kind != api.KindDenied || len(p.PolicyIDs) != 1 || p.PolicyIDs[0] != "nobody" {
			return errNotNow
		}
		return nil
	})
	writeFile(t, extra, []byte("permit (principal, action, resource"))
	r.broker.signal(syscall.SIGHUP)
	devtest.Eventually(t, 20*time.Second, "readyz does not tell", func() error {
		if _, err := r.get("/readyz"); err == nil || !strings.Contains(err.Error(), "policy") {
			return errNotNow
		}
		return nil
	})
	if err := denied(); !api.IsKind(err, api.KindDenied) {
		t.Errorf("under a policy that does not parse, the last good one is not in force: %v", err)
	}
	if err := os.Remove(extra); err != nil {
		t.Fatal(err)
	}
	r.broker.signal(syscall.SIGHUP)
	r.awaitBroker()
	devtest.Eventually(t, 20*time.Second, "the mended policy is not in force", denied)
	reloads := map[any]int{}
	for _, e := range sam.Events("--kind", "policy.reload") {
		reloads[e["outcome"]]++
	}
	if reloads["success"] < 2 || reloads["failure"] < 1 {
		t.Errorf("policy.reload events: %v", reloads)
	}
}

// TestStopEverything ends `segad dev up` while a session lives, whose end is in the log before the
// broker goes; devtest.Env.Stop fails where anything is left running.
func TestStopEverything(t *testing.T) {
	e := devtest.Up(t)
	alice := e.LoggedIn("alice@example.com")
	c := alice.Command(context.Background(), "sega", "ssh", e.Host.Name, "--", "echo up; cat")
	out := &sink{}
	c.Stdout, c.Stderr = out, out
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, 20*time.Second, "no session", func() error {
		if !strings.Contains(out.text(), "up\n") {
			return errNotNow
		}
		return nil
	})
	start := time.Now()
	e.Stop()
	_ = c.Wait()
	if code := c.ProcessState.ExitCode(); code == 0 || !strings.Contains(out.text(), "the bastion is shutting down") {
		t.Errorf("exit %d; the person reads %q", code, out.text())
	}
	b := newBook()
	if _, err := b.read(sqliteFile(e.Database), newLedger()); err != nil {
		t.Fatal(err)
	}
	if ends := b.of("session.end"); len(ends) != 1 || ends[0].Outcome != audit.Failure {
		t.Errorf("the log has %d ends of the session: %v", len(ends), ends)
	}
	t.Logf("everything ended in %s", time.Since(start).Round(time.Millisecond))
}
