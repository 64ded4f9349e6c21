package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// copyTables runs a statement for each table of a schema, as $1 of it, while nobody appends.
func copyTables(t *testing.T, at, statement string) {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	s, err := pgServer()
	if err != nil {
		t.Fatal(err)
	}
	schema := u.Query().Get("search_path")
	each := strings.NewReplacer("NAME", schema, "STATEMENT", statement).Replace(`CREATE SCHEMA IF NOT EXISTS NAME_old;
		DO $do$ DECLARE r record; BEGIN
			SET LOCAL session_replication_role = replica;
			PERFORM 1 FROM NAME.head FOR UPDATE;
			FOR r IN SELECT tablename AS name FROM pg_tables WHERE schemaname = 'NAME' LOOP
				EXECUTE format('STATEMENT', 'NAME.' || r.name, 'NAME_old.' || r.name);
			END LOOP;
		END $do$`)
	if err := s.Exec(t.Context(), "postgres", each); err != nil {
		t.Fatal(err)
	}
}

// reopen is a new process on the same database, which knows of the old one its mark alone.
func (w *world) reopen(open opener, mark []byte) {
	w.t.Helper()
	if err := w.db.Close(); err != nil {
		w.t.Fatal(err)
	}
	db, err := open(w.t, w.logKey)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = db.Close() })
	w.db, w.log = db, &brittleLog{Log: db}
	w.config.Log, w.config.Mark = w.log, mark
	w.restart()
}

// next returns the next item of a type.
func next(t *testing.T, items <-chan api.FeedItem, kind string) api.FeedItem {
	t.Helper()
	for late := time.After(10 * time.Second); ; {
		select {
		case item, ok := <-items:
			if !ok {
				t.Fatalf("the feed ended before an item of type %s", kind)
			}
			if item.Type == kind {
				return item
			}
		case <-late:
			t.Fatalf("no item of type %s", kind)
		}
	}
}

// revokeAlice revokes, lets the bastion acknowledge when the revocation has reached it, and returns the receipt.
func revokeAlice(t *testing.T, sam, bastion caller, items <-chan api.FeedItem) api.Receipt {
	t.Helper()
	next(t, items, api.FeedHeartbeat)
	done := make(chan api.Receipt, 1)
	go func() {
		var receipt api.Receipt
		sam.want(200, "POST", api.RouteRevoke, api.RevokeRequest{Subject: "user", ID: "alice@example.com", Reason: "stolen"}, &receipt)
		done <- receipt
	}()
	item := next(t, items, api.FeedRevoke)
	select {
	case receipt := <-done:
		t.Errorf("the receipt came before the acknowledgement: %+v", receipt.Points)
		return receipt
	default:
	}
	bastion.want(200, "POST", api.RouteAck, api.Ack{Index: item.Revocation.Index, Closed: 2}, nil)
	receipt := <-done
	if !slices.ContainsFunc(receipt.Points, func(p api.Point) bool { return p.Name == "bastion-1" && p.Acknowledged && p.Closed == 2 }) {
		t.Errorf("the receipt does not say what the bastion did: %+v", receipt.Points)
	}
	return receipt
}

// TestSetBackBeneath (R10): when its database is set back beneath it, a broker acknowledges nothing any
// more, says so, ends its feeds, and voids everything when it is started anew; a revocation after that
// reaches the bastions.
func TestSetBackBeneath(t *testing.T) {
	at := newDatabase(t)
	w := openWorld(t, onPostgres(at))
	w.login()
	sam, bastion := w.login(func(s *state.Session) { s.Subject, s.Email = "sam", "sam@example.com" }), w.machine()
	items := bastion.items(t)
	sam.certificate()
	copyTables(t, at, `CREATE TABLE %2$s AS TABLE %1$s`)
	revokeAlice(t, sam, bastion, items)
	mark, signed := w.db.Head()

	copyTables(t, at, `DELETE FROM %1$s; INSERT INTO %1$s TABLE %2$s`)
	rec := sam.do("POST", api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(sshKey(t))})
	if p := problemOf(t, rec); rec.Code != 503 || !strings.Contains(p.Detail, "set back") {
		t.Errorf("on a database that was set back: %d %s", rec.Code, rec.Body)
	}
	if rec := w.serve(httptest.NewRequest("GET", api.RouteReady, nil)); rec.Code != 503 || !strings.Contains(rec.Body.String(), "set back") {
		t.Errorf("readiness: %d %s", rec.Code, rec.Body)
	}
	for late := time.After(10 * time.Second); items != nil; {
		select {
		case _, ok := <-items:
			if !ok {
				items = nil
			}
		case <-late:
			t.Fatal("the feed goes on")
		}
	}
	if _, now := w.db.Head(); now != signed {
		t.Errorf("the head moved from %d to %d", signed.N, now.N)
	}

	for range 2 { // the second time the mark is known
		w.reopen(onPostgres(at), mark)
		trail := w.trail()
		if n := len(slices.DeleteFunc(slices.Clone(trail), func(s string) bool { return s != "log.recovery success" })); n != 1 || w.current(sam) || w.current(bastion) {
			t.Fatalf("%d recoveries, sessions stand: %v, %v; %v", n, w.current(sam), w.current(bastion), trail)
		}
	}
	events := w.events()
	i := slices.IndexFunc(events, func(e audit.Event) bool { return e.Kind == audit.KindLogRecovery })
	var said struct {
		Remembered int64  `json:"remembered_size"`
		By         string `json:"reported_by"`
	}
	if err := json.Unmarshal(events[i].Details, &said); err != nil || said.Remembered != signed.N || said.By != "node-1" {
		t.Errorf("the event says %+v, %v", said, err)
	}
	bastion = w.machine()
	r := bastion.request("POST", api.RouteMachine, nil)
	r.Header.Set(api.HeaderCheckpoint, base64.StdEncoding.EncodeToString(mark))
	if err := w.s.checkMark(t.Context(), &call{request: r, session: bastion.session}, "bastion-1"); api.AsProblem(err).Kind != api.KindConflict || !w.current(bastion) {
		t.Errorf("a bastion with a lost mark: %v; its session stands: %v", err, w.current(bastion))
	}
	sam = w.login(func(s *state.Session) { s.Subject, s.Email, s.Epoch = "sam", "sam@example.com", 1000001 })
	revokeAlice(t, sam, bastion, bastion.items(t))
}

// TestOwnMark (R10): a broker that starts compares the log with what an earlier run has seen.
func TestOwnMark(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	alice.assume("dev-admin")
	held, tree := w.db.Head()
	other, err := audit.GenerateLogKey(w.logKey.Name())
	if err != nil {
		t.Fatal(err)
	}
	alien, err := audit.SignCheckpoint(other.Name(), tree, other)
	if err != nil {
		t.Fatal(err)
	}
	lost, err := audit.SignCheckpoint(w.logKey.Name(), tlog.Tree{N: tree.N + 3, Hash: tlog.RecordHash([]byte("lost"))}, w.logKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		mark   []byte
		fails  bool
		stands bool
	}{{"none", nil, false, true}, {"held", held, false, true}, {"of another key", alien, true, true}, {"no checkpoint", []byte("x"), true, true}, {"lost", lost, false, false}} {
		w.config.Mark = c.mark
		_, err := New(t.Context(), w.config)
		if (err != nil) != c.fails || w.current(alice) != c.stands {
			t.Errorf("%s: %v; alice's session stands: %v", c.name, err, w.current(alice))
		}
	}
}

// TestAckOfAnotherHistory (I3): what a bastion acknowledged before the log went back is no
// acknowledgement of what comes now.
func TestAckOfAnotherHistory(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) opener{
		"sqlite":   func(*testing.T) opener { return onSQLite },
		"postgres": func(t *testing.T) opener { return onPostgres(newDatabase(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := openWorld(t, open(t))
			w.login()
			sam, bastion := w.login(func(s *state.Session) { s.Subject, s.Email = "sam", "sam@example.com" }), w.machine()
			items := bastion.items(t)
			next(t, items, api.FeedHeartbeat)
			bastion.want(200, "POST", api.RouteAck, api.Ack{Index: 1000, Closed: 9}, nil)
			revokeAlice(t, sam, bastion, items)
		})
	}
}

// TestFeedRewinds (I3): a revocation that takes the index of one that was sent and lost is sent too.
func TestFeedRewinds(t *testing.T) {
	w := newWorld(t)
	bastion := w.machine()
	items := bastion.items(t)
	put := func(id string) {
		w.write(func(ctx context.Context, tx store.Tx) error {
			if _, err := tx.ExecContext(ctx, `DELETE FROM revocations`); err != nil {
				return err
			}
			return state.AddRevocation(ctx, tx, state.Revocation{Index: 5, EventID: id, Subject: id, At: w.clock.now()})
		})
		w.s.hub.notify()
	}
	for _, id := range []string{"first", "second", "third"} {
		put(id)
		if item := next(t, items, api.FeedRevoke); item.Revocation.EventID != id {
			t.Errorf("got the revocation %s, want %s", item.Revocation.EventID, id)
		}
	}
}
