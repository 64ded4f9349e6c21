//go:build linux

package chaos

import (
	"context"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"sega/audit/postgres/pgtest"
	"sega/cmd/segad/dev/devtest"
	"sega/sshca"
)

const (
	brokerKills = 1000
	wantFlying  = 32                     // requests under way when the broker dies
	maxLife     = 400 * time.Millisecond // of a broker under load
	maxStart    = 350 * time.Millisecond // in which a starting broker dies
)

// toll is what the kills did.
type toll struct {
	kills, interrupted, starts int
	unknowns, silent           int
	calls, lost                int64
	flying                     int64 // least requests under way at a kill
}

// killing is a broker that is killed again and again, and who suffers from it.
type killing struct {
	*rig
	carol   *devtest.Person
	crowd   *crowd
	ledger  *ledger
	book    *book
	marks   *marks
	healthy *shell   // a session that was open before
	first   identity // with which it was opened
	rnd     *rand.Rand
	sum     toll
}

// TestKillBroker kills the broker at random moments while people, machines and bastions ask for
// things, and compares all that they received with the store (I1, I6, R3). A session that was open
// before lives through all of it.
func TestKillBroker(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { killBrokers(t, startRig(t, nil)) })
	t.Run("postgres", func(t *testing.T) {
		server := pgtest.Start(t)
		killBrokers(t, startRig(t, onPostgres(server)))
	})
}

func killBrokers(t *testing.T, r *rig) {
	k := newKilling(t, r)
	start := time.Now()
	for i := range times(brokerKills) {
		k.round(i)
		if t.Failed() {
			t.FailNow()
		}
	}
	k.judge()
	k.finish()
	t.Logf("%d kills under load in %s, %d of them interrupted a write, and %d of a starting broker; at least %d requests under way at each; "+
		"%d requests, %d of them without an answer; %d answers received, %d events; %d intents became unknown, %d grants were durable and reached nobody",
		k.sum.kills, time.Since(start).Round(time.Second), k.sum.interrupted, k.sum.starts, k.sum.flying, k.sum.calls, k.sum.lost,
		k.ledger.count(), k.book.next, k.sum.unknowns, k.sum.silent)
}

func newKilling(t *testing.T, r *rig) *killing {
	t.Helper()
	carol := r.LoggedIn("carol@example.com")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	k := &killing{rig: r, carol: carol, ledger: newLedger(), book: newBook(), marks: newMarks(t, r.bfile.LogKey), rnd: rand.New(rand.NewPCG(seed, 0)), sum: toll{flying: 1 << 40}}
	k.crowd = newCrowd(r, k.ledger, k.marks)
	k.first = k.crowd.ids[0]
	k.healthy = r.mustOpen(k.first, "cat", false)
	k.healthy.echo(t, "before")
	k.count()
	return k
}

// round is one kill, and what is held against the store afterwards.
func (k *killing) round(i int) {
	k.t.Helper()
	k.killUnderLoad()
	k.healthy.echo(k.t, "broker dead, round "+strconv.Itoa(i))
	if i%5 == 4 {
		k.killStart()
	}
	k.startBroker()
	k.sum.interrupted += k.count()
	k.marks.extended(k.t, k.crowd.people[0].Client)
	if i%10 == 9 {
		k.awaitFeed()
		k.healthy.echo(k.t, "round "+strconv.Itoa(i))
		k.crowd.refresh(k.ledger)
	}
}

// killUnderLoad lets everybody ask until the broker dies under them.
func (k *killing) killUnderLoad() {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var s storm
	s.run(ctx, k.ledger, append(k.crowd.tasks(), k.proxied))
	if !s.await(ctx, wantFlying) {
		k.t.Fatalf("never %d requests under way", wantFlying)
	}
	<-time.After(time.Duration(k.rnd.Int64N(int64(maxLife)))) // the random moment
	s.await(ctx, wantFlying)
	flying := s.inflight.Load()
	k.broker.kill()
	s.wg.Wait()
	for _, err := range s.wrong {
		k.t.Errorf("a request was refused: %v", err)
	}
	k.sum.kills++
	k.sum.flying = min(k.sum.flying, flying)
	k.sum.calls += s.calls.Load()
	k.sum.lost += s.lost.Load()
}

// killStart kills a broker that has just been started, most often while it opens its database or
// settles what the one before has left.
func (k *killing) killStart() {
	k.t.Helper()
	k.broker.start()
	<-time.After(time.Duration(k.rnd.Int64N(int64(maxStart))))
	if !k.broker.running() {
		k.t.Fatalf("the broker does not start: %s\n%s", k.broker.cmd.ProcessState, k.broker.tail(3000))
	}
	k.broker.kill()
	k.sum.starts++
}

// proxied opens a session through the bastion with a certificate of its own.
func (k *killing) proxied(ctx context.Context, l *ledger) error {
	id, err := k.crowd.people[1].certify(ctx)
	if err != nil {
		return err
	}
	l.got(certName("ssh.cert", id))
	out, _, err := k.run(id, "echo proxied")
	if err != nil || out != "proxied\n" {
		return errNotNow // the bastion could not ask, or has no feed
	}
	l.got(nameProxied(sshca.Serial(id.cert.Serial)))
	return nil
}

// count reads what was committed and holds what was received against it. It returns 1 where a
// write was interrupted since the last count: an intent had no outcome, or something was durable
// and its answer reached nobody.
func (k *killing) count() int {
	k.t.Helper()
	p, err := k.book.read(k.source(), k.ledger)
	if err != nil {
		k.t.Fatalf("the store: %v", err)
	}
	k.book.check(k.t, k.ledger)
	k.sum.unknowns += p.unknowns
	k.sum.silent += len(p.silent)
	if p.unknowns+len(p.silent) > 0 {
		return 1
	}
	return 0
}

// judge fails where the kills were too soft, and where the dead brokers left anything open.
func (k *killing) judge() {
	k.t.Helper()
	if 2*k.sum.interrupted < k.sum.kills {
		k.t.Errorf("%d of %d kills interrupted a write, want half of them at least", k.sum.interrupted, k.sum.kills)
	}
	if k.sum.flying < wantFlying {
		k.t.Errorf("a kill met %d requests, want %d", k.sum.flying, wantFlying)
	}
	if k.sum.unknowns == 0 {
		k.t.Error("no kill came between an intent and its outcome")
	}
	k.book.settled(k.t)
	db, err := k.source().open()
	if err != nil {
		k.t.Fatal(err)
	}
	defer db.Close()
	var open int
	if err := db.QueryRow(`SELECT count(*) FROM intents`).Scan(&open); err != nil || open != 0 {
		k.t.Errorf("%d intents are open, %v", open, err)
	}
}

// finish ends the healthy session and holds its recording against what its person received.
func (k *killing) finish() {
	k.t.Helper()
	k.awaitFeed()
	k.healthy.echo(k.t, "after")
	if err := k.healthy.in.Close(); err != nil {
		k.t.Error(err)
	}
	if err := k.healthy.sess.Wait(); err != nil {
		k.t.Errorf("cat: %v", err)
	}
	_ = k.healthy.client.Close()
	id := ""
	devtest.Eventually(k.t, 20*time.Second, "the healthy session has no end", func() error {
		k.count()
		id = k.book.sessionOf(k.first)
		_, err := k.book.end(id)
		return err
	})
	v := show(k.carol, id)
	if v.Outcome != "success" || v.Recording != "complete" {
		k.t.Errorf("the healthy session: %+v", v)
	}
	if got, want := play(k.carol, id), k.healthy.out.text(); got != want {
		k.t.Errorf("the healthy session's person received %d bytes, the recording has %d others", len(want), len(got))
	}
	if out, errs, err := k.run(mustCertify(k.t, k.crowd.people[0]), "echo again"); out != "again\n" {
		k.t.Errorf("a new session after all: %q %q %v", out, errs, err)
	}
	verify(k.carol)
}
