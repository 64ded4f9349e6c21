package indexer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"sega/audit/recording"
	"sega/broker/api"
)

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: -want +got\n%s", what, diff)
	}
}

func TestIndexAndSearch(t *testing.T) {
	w := newWorld(t)
	w.add("ssh_a", "DROP TABLE users\nline \"two\" 100% grüße\n")
	w.add("ssh_b", "drop tablet\nDROP\nTABLE\n")
	w.add("ssh_c", "nothing\n")
	w.broker.sessions = append(w.broker.sessions, recorded(t, 90, "ssh_d", "of a bastion that died: DROP TABLE x\n", w.reviewer.Recipient(), true))
	if err := w.look(); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]string{
		"DROP TABLE":        {"ssh_a", "ssh_b", "ssh_d"},
		"drop table users":  {"ssh_a"},
		`"two" 100% GRÜSSE`: {},
		`"two" 100% grüße`:  {"ssh_a"},
		"typed secret":      {},
		"* OR nothing":      {},
		`x" OR "nothing`:    {},
	} {
		same(t, text, want, w.found(text))
	}
	same(t, "missing", []string{}, w.missing())
	same(t, "mark", int64(90), w.mark())
	ids, more, err := w.index.Search(t.Context(), "drop table", 2)
	if err != nil || !more {
		t.Errorf("more %v, %v", more, err)
	}
	same(t, "with a limit", []string{"ssh_a", "ssh_b"}, ids)
	for id := range w.broker.fetched {
		same(t, "times that "+id+" was fetched", 1, w.broker.fetched[id])
	}
}

// TestJudged: what is not the recording that the log announced is never opened, and says why.
func TestJudged(t *testing.T) {
	other := identity(t)
	for name, c := range map[string]struct {
		change func(w *world, s *session)
		want   string
	}{
		"a byte of the header":    {func(_ *world, s *session) { s.raw[200] ^= 1 }, "ssh_x skipped forged at 0 1"},
		"a byte of the last seal": {func(_ *world, s *session) { s.raw[len(s.raw)-1] ^= 1 }, "ssh_x skipped forged at 2 1"},
		"another recording": {func(w *world, s *session) {
			s.raw = recorded(w.t, 1, "ssh_x", "evil\n", w.reviewer.Recipient(), false).raw
		}, "ssh_x skipped forged at 0 1"},
		"bytes added":         {func(_ *world, s *session) { s.raw = append(s.raw, 0, 0, 0, 9, 1) }, "ssh_x skipped forged at 3 1"},
		"the end is missing":  {func(_ *world, s *session) { s.raw = s.raw[:len(s.raw)-200] }, "ssh_x waiting gap at 2 1"},
		"nothing there":       {func(_ *world, s *session) { s.raw = nil }, "ssh_x waiting missing 1"},
		"not uploaded":        {func(w *world, s *session) { w.broker.refuse["ssh_x"] = api.Errorf(api.KindNotFound, "none") }, "ssh_x waiting unavailable 1"},
		"a bucket in trouble": {func(w *world, s *session) { w.broker.refuse["ssh_x"] = api.Errorf(api.KindInternal, "none") }, "ssh_x waiting unavailable 1"},
		"always breaks off":   {func(w *world, s *session) { w.broker.refuse["ssh_x"] = io.ErrUnexpectedEOF }, "ssh_x waiting unavailable 1"},
		"policy says no":      {func(w *world, s *session) { w.broker.refuse["ssh_x"] = api.Errorf(api.KindDenied, "no") }, "ssh_x skipped denied 1"},
		"no announcement":     {func(_ *world, s *session) { s.Start = nil }, "ssh_x skipped unannounced 1"},
		"a key of the wrong size": {func(_ *world, s *session) {
			s.Start = json.RawMessage(`{"recording":{"public_key":"AAAA","header_digest":"x"}}`)
		}, "ssh_x skipped unannounced 1"},
		"an end without recording": {func(_ *world, s *session) { s.End = json.RawMessage(`{}`) }, "ssh_x skipped unannounced 1"},
		"a head that contradicts": {func(_ *world, s *session) {
			s.Heads = []json.RawMessage{json.RawMessage(`{"segments":1,"bytes":5,"hash":"00"}`)}
		}, "ssh_x skipped forged at 1 1"},
		"no JSON": {func(_ *world, s *session) { s.Heads = []json.RawMessage{json.RawMessage(`"x"`)} }, "ssh_x skipped unannounced 1"},
		"for somebody else": {func(w *world, s *session) {
			*s = recorded(w.t, s.Index, "ssh_x", "not for us\n", other.Recipient(), false)
		}, "ssh_x skipped no identity 1"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.add("ssh_before", "good text\n")
			i := w.add("ssh_x", "good text\nDROP TABLE users\n")
			w.add("ssh_after", "good text\n")
			c.change(w, &w.broker.sessions[i])
			if err := w.look(); err != nil {
				t.Fatal(err)
			}
			same(t, "missing", []string{c.want}, w.missing())
			same(t, "found", []string{"ssh_after", "ssh_before"}, w.found("good text"))
			same(t, "mark", int64(30), w.mark())
			left, err := os.ReadDir(filepath.Join(w.dir, "spool"))
			if err != nil || len(left) > 0 {
				t.Errorf("left on the spool: %v, %v", left, err)
			}
		})
	}
}

// TestInputIdentity: who may read what was typed alone gets no text, and it says so.
func TestInputIdentity(t *testing.T) {
	w := newWorld(t)
	reviewer := identity(t)
	f := &spool{}
	rec, err := recording.New(f, recording.Config{SessionID: "ssh_x", Recipients: recipients(t, identity(t), identity(t)), InputRecipients: recipients(t, reviewer, identity(t))})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(rec.Write(0, recording.StreamIn, []byte("typed\n")), rec.Write(0, recording.StreamOut, []byte("shown\n"))); err != nil {
		t.Fatal(err)
	}
	head, err := rec.Close("")
	if err != nil {
		t.Fatal(err)
	}
	w.broker.sessions = []session{{raw: f.Bytes(), IndexSession: api.IndexSession{Index: 3, SessionID: "ssh_x",
		Start: marshal(t, map[string]any{"recording": rec.Announce()}), End: marshal(t, map[string]any{"recording": recording.Complete(head)})}}}
	if err := w.indexer(reviewer).look(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "missing", []string{"ssh_x skipped no identity 1"}, w.missing())
}

// TestWaiting: a recording that comes late is indexed when it is there, does not hold up the
// others, and is given up after a while, until somebody asks.
func TestWaiting(t *testing.T) {
	w := newWorld(t)
	w.add("ssh_late", "late text\n")
	w.add("ssh_never", "never text\n")
	w.add("ssh_good", "good text\n")
	none := api.Errorf(api.KindNotFound, "there is none")
	w.broker.refuse = map[string]error{"ssh_late": none, "ssh_never": none}
	x := w.indexer()
	look := func() {
		t.Helper()
		if err := x.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	look()
	same(t, "missing", []string{"ssh_late waiting unavailable 1", "ssh_never waiting unavailable 1"}, w.missing())
	same(t, "found", []string{"ssh_good"}, w.found("good text"))
	look()
	same(t, "fetched again at once", 1, w.broker.times("ssh_late"))
	w.clock.add(firstRetry)
	delete(w.broker.refuse, "ssh_late")
	look()
	same(t, "missing", []string{"ssh_never waiting unavailable 2"}, w.missing())
	same(t, "found", []string{"ssh_late"}, w.found("late text"))
	for range 2 * maxTries {
		w.clock.add(lastRetry)
		look()
	}
	same(t, "given up", []string{"ssh_never skipped unavailable 20"}, w.missing())
	same(t, "fetched", maxTries, w.broker.times("ssh_never"))
	delete(w.broker.refuse, "ssh_never")
	if n, err := w.index.Retry(t.Context()); n != 1 || err != nil {
		t.Errorf("%d are tried again, %v", n, err)
	}
	look()
	same(t, "missing", []string{}, w.missing())
	same(t, "found", []string{"ssh_never"}, w.found("never text"))
}

// TestBrokerAway: what cannot be asked is asked again; nothing is left out.
func TestBrokerAway(t *testing.T) {
	for name, down := range map[string]error{
		"unreachable": api.Errorf(api.KindUnreachable, "away"), "not ready": api.Errorf(api.KindUnavailable, "its disk is full"), "revoked": api.Errorf(api.KindRevoked, "revoked"),
		"no problem at all": errors.New("a checkpoint that is refused"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.add("ssh_a", "some text\n")
			w.broker.refuse["ssh_a"] = down
			if err := w.look(); !errors.Is(err, down) {
				t.Errorf("got %v", err)
			}
			same(t, "mark", int64(-1), w.mark())
			w.broker.refuse = nil
			if err := w.look(); err != nil {
				t.Fatal(err)
			}
			same(t, "found", []string{"ssh_a"}, w.found("some text"))
		})
	}
}

// TestTwice: a session whose end comes twice, and a log that is read from its start again, double nothing.
func TestTwice(t *testing.T) {
	w := newWorld(t)
	i := w.add("ssh_a", "some text\n")
	again := w.broker.sessions[i]
	again.Index = 500
	w.broker.sessions = append(w.broker.sessions, again)
	pieces := func() (n int) {
		t.Helper()
		if err := w.index.db.QueryRow(`SELECT count(*) FROM pieces`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := w.look(); err != nil {
		t.Fatal(err)
	}
	same(t, "pieces", 1, pieces())
	if err := w.index.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "mark", int64(-1), w.mark())
	if err := w.look(); err != nil {
		t.Fatal(err)
	}
	same(t, "pieces", 1, pieces())
	same(t, "mark", int64(500), w.mark())
	same(t, "fetched", 1, w.broker.times("ssh_a"))
}

func TestLimits(t *testing.T) {
	const most = 1 << 20
	tx := &text{most: most}
	line := strings.Repeat("x", 16<<10)
	for tx.add(line) {
	}
	tx.flush()
	if !tx.cut || tx.bytes != most {
		t.Errorf("%d bytes, cut %v", tx.bytes, tx.cut)
	}
	for _, p := range tx.pieces {
		if len(p) > pieceBytes+len(line) {
			t.Fatalf("a piece of %d bytes", len(p))
		}
	}
	tx = &text{most: most, lines: maxLines - 1}
	if !tx.add("a") || tx.add("b") || !tx.cut {
		t.Error("lines are not bounded")
	}
	// The text of a session that showed more is there up to the limit, and the entry says that it is cut.
	w := newWorld(t)
	w.add("ssh_big", "first words\n"+strings.Repeat(strings.Repeat("y", 1000)+"\n", 100)+"last words\n")
	w.add("ssh_fits", "first words\nlast words\n")
	x := w.indexer()
	x.MaxText = 50_000
	if err := x.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "first", []string{"ssh_big", "ssh_fits"}, w.found("first words"))
	same(t, "last", []string{"ssh_fits"}, w.found("last words"))
	cut, err := w.index.Cut(t.Context())
	if err != nil || len(cut) != 1 || cut[0].ID != "ssh_big" || cut[0].Bytes > 50_000 {
		t.Errorf("cut: %+v, %v", cut, err)
	}
	if missing, cut, err := w.index.Uncovered(t.Context()); missing != 0 || cut != 1 || err != nil {
		t.Errorf("%d missing and %d cut, %v", missing, cut, err)
	}
}

// TestFileMode: index and journals are readable for their owner alone, also where the file had another mode.
func TestFileMode(t *testing.T) {
	w := newWorld(t)
	w.add("ssh_a", "some text\n")
	if err := os.Chmod(filepath.Join(w.dir, "index.db"), 0o644); err != nil {
		t.Fatal(err)
	}
	_ = w.index.Close()
	w.open()
	if err := w.look(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		if strings.HasPrefix(e.Name(), "index.db") {
			seen++
		}
	}
	if seen < 2 {
		t.Error("there is no journal: the test looks at nothing")
	}
}

// TestSpoolIsEmptied: what a killed indexer left on its spool goes at the next start.
func TestSpoolIsEmptied(t *testing.T) {
	w := newWorld(t)
	left := filepath.Join(w.dir, "spool", "recording-1")
	if err := errors.Join(os.MkdirAll(filepath.Dir(left), 0o700), os.WriteFile(left, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	w.indexer()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left is there: %v", err)
	}
}

func recipients(t *testing.T, ids ...*age.X25519Identity) (out []age.Recipient) {
	t.Helper()
	for _, id := range ids {
		out = append(out, id.Recipient())
	}
	return out
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	good := w.indexer().Config
	for name, change := range map[string]func(*Config){
		"no identity": func(c *Config) { c.Identities = nil }, "no broker": func(c *Config) { c.Broker = nil }, "no index": func(c *Config) { c.Index = nil },
		"no spool": func(c *Config) { c.Spool = "" }, "no clock": func(c *Config) { c.Now = nil }, "no logger": func(c *Config) { c.Log = nil },
	} {
		c := good
		change(&c)
		if _, err := New(t.Context(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// run runs an indexer until the test ends.
func (w *world) run(x *Indexer) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) ask(q api.IndexSearch) api.IndexHits {
	w.t.Helper()
	select {
	case w.broker.searches <- q:
	case <-time.After(10 * time.Second):
		w.t.Fatal("the indexer takes no searches")
	}
	select {
	case hits := <-w.broker.hits:
		return hits
	case <-time.After(20 * time.Second):
		w.t.Fatal("no answer")
	}
	return api.IndexHits{}
}

// TestAnswers: an answer covers what had ended when it was asked for, however long the next look is away.
func TestAnswers(t *testing.T) {
	w := newWorld(t)
	w.add("ssh_a", "DROP TABLE users\n")
	x := w.indexer()
	x.Poll = time.Hour
	w.run(x)
	same(t, "hits", api.IndexHits{ID: "isr_1", Sessions: []string{"ssh_a"}, UpTo: 10}, w.ask(api.IndexSearch{ID: "isr_1", Text: "drop table", Limit: 10, UpTo: 10}))
	w.add("ssh_b", "drop table\n")
	same(t, "after another", api.IndexHits{ID: "isr_2", Sessions: []string{"ssh_a", "ssh_b"}, UpTo: 20}, w.ask(api.IndexSearch{ID: "isr_2", Text: "drop table", Limit: 10, UpTo: 20}))
	same(t, "cut", api.IndexHits{ID: "isr_3", Sessions: []string{"ssh_a"}, More: true, UpTo: 20}, w.ask(api.IndexSearch{ID: "isr_3", Text: "drop table", Limit: 1, UpTo: 20}))
	same(t, "nothing", api.IndexHits{ID: "isr_4", Sessions: []string{}, UpTo: 20}, w.ask(api.IndexSearch{ID: "isr_4", Text: "no such text", Limit: 10, UpTo: 20}))
	_ = w.index.Close()
	hits := w.ask(api.IndexSearch{ID: "isr_5", Text: "drop table", Limit: 10, UpTo: 20})
	if hits.Error == "" || hits.ID != "isr_5" {
		t.Errorf("of a closed index: %+v", hits)
	}
	if s := w.logs.String(); strings.Contains(strings.ToLower(s), "drop table") {
		t.Errorf("the log holds what was searched for or found:\n%s", s)
	}
	w.open()
}

// TestBehind: an index that does not come as far in time says how far it is.
func TestBehind(t *testing.T) {
	w := newWorld(t)
	w.add("ssh_a", "DROP TABLE users\n")
	if err := w.look(); err != nil {
		t.Fatal(err)
	}
	x := w.indexer()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if upTo := x.catchUp(ctx, 11); upTo != 10 {
		t.Errorf("it covers %d", upTo)
	}
}

// TestFlood: a session that asks for endless drawing is indexed as far as its work goes, says that it
// is cut, and holds up no other.
func TestFlood(t *testing.T) {
	w := newWorld(t)
	w.add("ssh_flood", "before the flood\r\n"+strings.Repeat("\x1b[999S\x1b[999L", 20_000)+"after the flood\r\n")
	w.add("ssh_after", "the next one\n")
	x := w.indexer()
	x.MaxWork = 1 << 20
	if err := x.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	cut, err := w.index.Cut(t.Context())
	if err != nil || len(cut) != 1 || cut[0].ID != "ssh_flood" {
		t.Errorf("cut: %+v, %v", cut, err)
	}
	same(t, "before", []string{"ssh_flood"}, w.found("before the flood"))
	same(t, "next", []string{"ssh_after"}, w.found("the next one"))
	same(t, "mark", int64(20), w.mark())
}

// TestStopsWhileDrawing: an indexer that is told to stop does not draw a session to its end, nor
// store half of it.
func TestStopsWhileDrawing(t *testing.T) {
	w := newWorld(t)
	s := w.broker.sessions[w.add("ssh_long", strings.Repeat("a line\n", 1000))]
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(s.raw, 0); err != nil {
		t.Fatal(err)
	}
	c, err := parseClaim(s.IndexSession)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found, err := judge(ctx, f, c, []age.Identity{w.reviewer}, defaultText, defaultWork); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", found, err)
	}
}
