package bastion

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// steadySessions are so many that live and that pause while the broker is lost.
func steadySessions(t *testing.T, b *Bastion, n int) (all []*session) {
	t.Helper()
	for i := range n {
		s := &session{b: b, ctx: t.Context(), cancel: func(error) {}, serving: true}
		s.hop = api.Hop{SessionID: fmt.Sprintf("ssh_%08d", i), Ladder: pauses(api.OnBroker, 600)}
		s.entry = &live{session: true, sever: s.sever, failed: s.failed, mended: s.mended, halted: s.halts.list, subject: subject{session: s.hop.SessionID}}
		if rev := b.reg.admit(b.reg.claim(), s.entry); rev != nil {
			t.Fatal(rev)
		}
		t.Cleanup(s.halts.stop)
		all = append(all, s)
	}
	return all
}

// TestManySessionsPause: however many there are, all stand before the disk hears of the first, and go on before
// it hears of that. Each is reported. SEGA_SOAK=1 makes them 10,000.
func TestManySessionsPause(t *testing.T) {
	n := 500
	if os.Getenv("SEGA_SOAK") != "" {
		n = 10_000
	}
	dir := t.TempDir()
	reports, err := openReports(dir, dir, nil, discardLog())
	if err != nil {
		t.Fatal(err)
	}
	b := &Bastion{cfg: Config{Log: discardLog(), Now: time.Now}, reg: newRegistry(), reports: reports}
	all := steadySessions(t, b, n)
	for _, failed := range []bool{true, false} {
		calls := 0
		began := time.Now()
		b.reg.step(api.OnBroker, failed, func(said []api.Report) {
			calls++
			stood := time.Since(began)
			for _, s := range all {
				if halted := len(s.halts.list()) > 0; halted != failed {
					t.Fatalf("%s is halted: %v", s.hop.SessionID, halted)
				}
			}
			if len(said) != n {
				t.Errorf("%d reports of %d sessions", len(said), n)
			}
			reports.putAll(said)
			t.Logf("%d sessions in %v, on the disk after %v", n, stood, time.Since(began))
		})
		if calls != 1 {
			t.Errorf("reported %d times", calls)
		}
	}
	left, err := openReports(dir, dir, nil, discardLog())
	if err != nil {
		t.Fatal(err)
	}
	kinds := func(q *reportQueue) map[string]string {
		out := map[string]string{}
		for _, item := range q.queue {
			out[item.report.SessionID] += item.report.Kind + " "
		}
		return out
	}
	want := map[string]string{}
	for _, s := range all {
		want[s.hop.SessionID] = kindPause + " " + kindResume + " "
	}
	if diff := cmp.Diff(want, kinds(reports)); diff != "" {
		t.Errorf("queued (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, kinds(left)); diff != "" {
		t.Errorf("on the disk (-want +got):\n%s", diff)
	}
	if tmp, err := filepath.Glob(filepath.Join(dir, ".tmp-*")); err != nil || len(tmp) != 0 {
		t.Errorf("left behind: %v, %v", tmp, err)
	}
}

// TestStepWaitsForNoDisk: while the disk hangs in a step's reports, the sessions hear of the next one, leave the registry
// and are cut. What was reported keeps its order, is taken by the broker, and leaves no file.
func TestStepWaitsForNoDisk(t *testing.T) {
	dir := t.TempDir()
	control := newFakeControl(t)
	reports, err := openReports(dir, dir, control, discardLog())
	if err != nil {
		t.Fatal(err)
	}
	hangs, replace := make(chan struct{}), reports.replace
	reports.replace = func(path string, data []byte, mode os.FileMode) error {
		<-hangs
		return replace(path, data, mode)
	}
	b := &Bastion{cfg: Config{Log: discardLog(), Now: time.Now}, reg: newRegistry(), reports: reports}
	all := steadySessions(t, b, 3)
	for _, s := range all {
		s.hop.Ladder.Disk = s.hop.Ladder.Broker
	}
	b.sayRoom(levelLow, levelHalf, roomDetail{Half: true})
	b.reg.step(api.OnBroker, true, b.reports.post)
	for _, s := range all {
		if diff := cmp.Diff([]string{api.OnBroker, api.OnDisk}, s.halts.list()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.hop.SessionID, diff)
		}
	}
	b.reg.remove(all[0].entry)
	if n := b.reg.cut(everybody, shuttingDown()).finish(); n != 2 {
		t.Errorf("%d were cut", n)
	}
	close(hangs)
	if _, err := reports.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, r := range control.reports {
		order = append(order, r.Kind+" "+r.Reason)
	}
	want := []string{kindSpoolLow + " "}
	for _, on := range []string{api.OnDisk, api.OnBroker} {
		for range all {
			want = append(want, kindPause+" "+failures[on].text)
		}
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("reported (-want +got):\n%s", diff)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestEndIsReportedBehindAPause: a session that ends while a step is reported leaves the registry, behind which
// its end is reported, only then.
func TestEndIsReportedBehindAPause(t *testing.T) {
	b := &Bastion{cfg: Config{Log: discardLog(), Now: time.Now}, reg: newRegistry()}
	s := steadySessions(t, b, 1)[0]
	removed := make(chan struct{})
	b.reg.step(api.OnBroker, true, func([]api.Report) {
		go func() { defer close(removed); b.reg.remove(s.entry) }()
		select {
		case <-removed:
			t.Error("it was removed before its pause was reported")
		case <-time.After(50 * time.Millisecond):
		}
		if n := b.reg.cut(everybody, shuttingDown()).finish(); n != 1 {
			t.Errorf("%d were cut meanwhile", n)
		}
	})
	<-removed
}

// TestPauseBeforeTheStart: what fails and is mended while the host is dialled follows the start in the log.
func TestPauseBeforeTheStart(t *testing.T) {
	f := newFakeControl(t)
	dialing, release := make(chan struct{}, 1), make(chan struct{})
	w := startLadder(t, f, pauses(api.OnDisk, 60), func(c *Config) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialing <- struct{}{}
			<-release
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	})
	done := newSessionLater(t, w.direct(t))
	<-dialing
	w.fails()[api.OnDisk](true)
	eventually(t, "a pause", func() bool { return len(w.halted()) == 1 })
	w.fails()[api.OnDisk](false)
	eventually(t, "no pause", func() bool { return len(w.halted()) == 0 })
	f.only(t, kindSpoolFree)
	if early := f.find(kindPause); len(early) != 0 {
		t.Errorf("reported before the start: %+v", early)
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f.only(t, kindResume)
	var order []string
	f.set(func() {
		for _, r := range f.reports {
			if r.SessionID != "" && r.Kind != kindCommand && r.Kind != kindEnd {
				order = append(order, r.Kind)
			}
		}
	})
	if diff := cmp.Diff([]string{kindStart, kindPause, kindResume}, order); diff != "" {
		t.Error(diff)
	}
}

// TestRunEndsBehindPosts: what is reported while the queue's own run ends already is on the disk when the bastion has ended.
func TestRunEndsBehindPosts(t *testing.T) {
	dir := t.TempDir()
	reports, err := openReports(dir, dir, awayControl{}, discardLog())
	if err != nil {
		t.Fatal(err)
	}
	hangs, replace := make(chan struct{}), reports.replace
	reports.replace = func(path string, data []byte, mode os.FileMode) error {
		<-hangs
		return replace(path, data, mode)
	}
	b := &Bastion{cfg: Config{Log: discardLog(), CallTimeout: time.Second}, reports: reports}
	b.refusals = &refusals{queue: newReports(1, awayControl{}, discardLog())}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := reports.run(ended); err != nil {
		t.Fatal(err)
	}
	reports.post([]api.Report{{ID: newEventID(), Kind: kindSpoolLow}})
	time.AfterFunc(50*time.Millisecond, func() { close(hangs) })
	if err := b.lastReports(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.json")); err != nil || len(left) != 1 {
		t.Errorf("on the disk: %v, %v", left, err)
	}
}

// awayControl is a broker that does not answer.
type awayControl struct{ Control }

func (awayControl) Report(context.Context, []api.Report) error { return errors.New("no route to host") }
