//go:build linux

package chaos

import (
	"context"
	"errors"
	"testing"
	"time"

	"sega/audit/postgres/pgtest"
	"sega/cmd/segad/dev/devtest"
)

const (
	databaseKills = 1000
	maxDown       = 200 * time.Millisecond // that a dead database stays dead
)

// TestKillDatabase kills PostgreSQL, all of its processes at once, at random moments under the same
// load. The broker goes on: it refuses what it cannot make durable, and serves again by itself.
// Whatever anybody received is in the log afterwards, once (I1, I6, R9).
func TestKillDatabase(t *testing.T) {
	server := pgtest.Start(t)
	k := newKilling(t, startRig(t, onPostgres(server)))
	start := time.Now()
	var refused int64
	for i := range times(databaseKills) {
		refused += k.killDatabase(server)
		if i%10 == 9 {
			k.awaitFeed()
			k.healthy.echo(k.t, "database killed")
			k.crowd.refresh(k.ledger)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	// An intent that the dead database has left open is closed by the running broker, in its own time.
	devtest.Eventually(t, 2*time.Minute, "an intent stays open", func() error {
		k.count()
		for _, outcomes := range k.book.intents {
			if outcomes == 0 {
				return errors.New("an intent has no outcome")
			}
		}
		return nil
	})
	k.judge()
	k.finish()
	t.Logf("%d kills of PostgreSQL in %s, %d of them interrupted a write; at least %d requests under way at each; %d requests, %d without an answer, %d refused; "+
		"%d answers received, %d events; %d intents became unknown, %d grants were durable and reached nobody",
		k.sum.kills, time.Since(start).Round(time.Second), k.sum.interrupted, k.sum.flying, k.sum.calls, k.sum.lost, refused, k.ledger.count(), k.book.next, k.sum.unknowns, k.sum.silent)
}

// killDatabase is one kill under load, and the restart under the same load.
func (k *killing) killDatabase(server *pgtest.Server) (refused int64) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s := storm{withoutDatabase: true}
	s.run(ctx, k.ledger, append(k.crowd.tasks(), k.proxied))
	if !s.await(ctx, wantFlying) {
		k.t.Fatalf("never %d requests under way", wantFlying)
	}
	<-time.After(time.Duration(k.rnd.Int64N(int64(maxLife)))) // the random moment
	s.await(ctx, wantFlying)
	k.sum.flying = min(k.sum.flying, s.inflight.Load())
	if err := server.Kill(); err != nil {
		k.t.Fatal(err)
	}
	<-time.After(time.Duration(k.rnd.Int64N(int64(maxDown))))
	if err := server.Restart(); err != nil {
		k.t.Fatal(err)
	}
	k.awaitBroker()
	cancel()
	s.wg.Wait()
	for _, err := range s.wrong {
		k.t.Errorf("a request was refused: %v", err)
	}
	k.sum.kills++
	k.sum.calls += s.calls.Load()
	k.sum.lost += s.lost.Load()
	k.sum.interrupted += k.count()
	k.marks.extended(k.t, k.crowd.people[0].Client)
	return s.refused.Load()
}
