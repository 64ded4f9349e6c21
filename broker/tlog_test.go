package broker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/state"
)

const tlogPolicies = policies + `
@id("auditors") permit (principal in Group::"auditors", action in [Action::"verifyLog", Action::"readEvents"], resource);
@id("readers") permit (principal in Group::"readers", action in [Action::"readEvents", Action::"readContent"], resource);
@id("own") permit (principal is User, action == Action::"readEvents", resource is AuditLog) when { resource has owner && resource.owner == principal.id };
`

// tlogWorld is a broker with n events in its log, of alice and bob in turns; every fifth is a command.
func tlogWorld(t testing.TB, n int) *world {
	t.Helper()
	w := newWorld(t)
	w.policy["p.cedar"].Data = []byte(tlogPolicies)
	if err := w.s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	var events []audit.Event
	for i := len(w.events()); i < n; i++ {
		e := audit.New(w.clock.now().Add(time.Duration(i)*time.Second), audit.KindSSHCert, audit.Success)
		e.Actor = audit.Actor{Kind: audit.ActorUser, Iss: issuer, Sub: []string{"alice", "bob"}[i%2], Email: []string{"alice@example.com", "bob@example.com"}[i%2]}
		if i%5 == 0 {
			e.Kind, e.Details = audit.KindSessionCommand, json.RawMessage(fmt.Sprintf(`{"type":"exec","command":"canary %d"}`, i))
		}
		events = append(events, e)
	}
	for len(events) > 0 {
		part := events[:min(len(events), 500)]
		if _, err := w.db.Append(t.Context(), part, nil); err != nil {
			t.Fatal(err)
		}
		events = events[len(part):]
	}
	return w
}

func (w *world) member(group string) caller {
	w.t.Helper()
	return w.login(func(s *state.Session) { s.Subject, s.Email, s.Groups = "carol", "carol@example.com", []string{group} })
}

// monitor is a foreign client: package tlog's own, over HTTP, with nothing of ours but the prefix.
type monitor struct {
	t    testing.TB
	base string
	got  []string
}

func (m *monitor) get(path string) (int, http.Header, []byte) {
	m.t.Helper()
	resp, err := http.Get(m.base + path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, data
}

// Height, ReadTiles and SaveTiles implement tlog.TileReader.
func (m *monitor) Height() int { return 8 }

func (m *monitor) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		path := "/" + strings.Replace(t.Path(), "tile/8/", "tile/", 1)
		code, _, data := m.get(path)
		if code != 200 {
			return nil, fmt.Errorf("%s: %d %s", path, code, data)
		}
		out[i], m.got = data, append(m.got, path)
	}
	return out, nil
}

func (m *monitor) SaveTiles([]tlog.Tile, [][]byte) {}

func watch(t testing.TB, w *world) *monitor {
	server := httptest.NewServer(w.s)
	t.Cleanup(server.Close)
	return &monitor{t: t, base: server.URL + "/tlog"}
}

// checkpoint reads the tree as any client of signed notes would.
func (m *monitor) checkpoint(key string) tlog.Tree {
	m.t.Helper()
	code, h, data := m.get("/checkpoint")
	if code != 200 || h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("Cache-Control") != "no-store" {
		m.t.Fatalf("%d %v", code, h)
	}
	verifier, err := note.NewVerifier(key)
	if err != nil {
		m.t.Fatal(err)
	}
	n, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		m.t.Fatal(err)
	}
	lines := strings.Split(n.Text, "\n")
	var tree tlog.Tree
	if _, err := fmt.Sscan(lines[1], &tree.N); err != nil {
		m.t.Fatal(err)
	}
	if tree.Hash, err = tlog.ParseHash(lines[2]); err != nil {
		m.t.Fatal(err)
	}
	return tree
}

// TestForeignMonitor follows the log with the client of package tlog, without a session, through
// sizes at which tiles fill up: every leaf is proven, and every checkpoint extends the one before.
func TestForeignMonitor(t *testing.T) {
	w := tlogWorld(t, 250)
	m := watch(t, w)
	rows := []audit.Row{}
	var before tlog.Tree
	for _, more := range []int{0, 5, 1, 1, 254, 1, 2, 255, 300} {
		if more > 0 {
			if _, err := w.db.Append(t.Context(), systemEvents(more, w.clock.now()), nil); err != nil {
				t.Fatal(err)
			}
		}
		tree := m.checkpoint(w.logKey.VerifierKey())
		for row, err := range w.db.Rows(t.Context(), int64(len(rows)), tree.N) {
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, row)
		}
		reader := tlog.TileHashReader(tree, m)
		var indexes []int64
		for i := range tree.N {
			indexes = append(indexes, tlog.StoredHashIndex(0, i))
		}
		hashes, err := reader.ReadHashes(indexes)
		if err != nil {
			t.Fatalf("%d events: %v", tree.N, err)
		}
		for i, h := range hashes {
			if h != tlog.RecordHash(rows[i].Body) {
				t.Fatalf("leaf %d of %d is wrong", i, tree.N)
			}
		}
		if before.N > 0 {
			proof, err := tlog.ProveTree(tree.N, before.N, reader)
			if err == nil {
				err = tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash)
			}
			if err != nil {
				t.Errorf("%d does not extend %d: %v", tree.N, before.N, err)
			}
			// A monitor that is behind goes on reading the tiles of the tree that it knows.
			if _, err := tlog.TileHashReader(before, m).ReadHashes([]int64{tlog.StoredHashIndex(0, before.N-1)}); err != nil {
				t.Errorf("tiles of %d events at %d: %v", before.N, tree.N, err)
			}
		}
		before = tree
	}
	if len(w.events()) != len(rows) {
		t.Error("reading hashes is an event")
	}
}

func systemEvents(n int, now time.Time) (out []audit.Event) {
	for range n {
		e := audit.New(now, audit.KindSSHCert, audit.Success)
		e.Actor.Kind = audit.ActorSystem
		out = append(out, e)
	}
	return out
}

func TestTiles(t *testing.T) {
	w := tlogWorld(t, 600)
	m := watch(t, w)
	_, tree := w.db.Head()
	if tree.N != 600 {
		t.Fatalf("%d events", tree.N)
	}
	for path, width := range map[string]int{
		"/tile/0/000": 256, "/tile/0/001": 256, "/tile/0/002.p/88": 88, "/tile/0/002.p/1": 1, "/tile/0/000.p/255": 255, "/tile/1/000.p/2": 2, "/tile/1/000.p/1": 1,
		"/tile/0/002": 0, "/tile/0/002.p/89": 0, "/tile/0/003": 0, "/tile/0/003.p/1": 0, "/tile/1/000": 0, "/tile/1/000.p/3": 0, "/tile/2/000.p/1": 0, "/tile/63/000": 0,
		"/tile/0/0": 0, "/tile/0/000.p/0": 0, "/tile/0/000.p/256": 0, "/tile/00/000": 0, "/tile/64/000": 0, "/tile/8/0/000": 0, "/tile/data/000": 0, "/tile/0/x000/000": 0, "/tile/%30/000": 0,
		"/tile/0/000.p%2f5": 0, "/tile/": 0, "/tile/0": 0, "/tile/0/": 0, "/tile/0/000/": 0,
	} {
		code, h, data := m.get(path)
		if width == 0 {
			if code != 404 || h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %d %v", path, code, h)
			}
			continue
		}
		if code != 200 || len(data) != width*tlog.HashSize || h.Get("Content-Type") != "application/octet-stream" || h.Get("Cache-Control") != immutable || h.Get(api.HeaderNonce)+h.Get(api.HeaderRequestID)+h.Get(api.HeaderCheckpoint) != "" {
			t.Errorf("%s: %d, %d bytes, %v", path, code, len(data), h)
		}
	}
	w.clock.add(time.Minute)
	many := 0
	for range upperTileBurst + 5 {
		if code, _, _ := m.get("/tile/1/000.p/2"); code == http.StatusTooManyRequests {
			many++
		}
	}
	if many != 5 {
		t.Errorf("%d of %d upper tiles were refused", many, upperTileBurst+5)
	}
	if code, _, _ := m.get("/tile/0/000"); code != 200 {
		t.Errorf("the lowest level is bounded with the upper ones: %d", code)
	}
}

func TestEntries(t *testing.T) {
	w := tlogWorld(t, 600)
	m := watch(t, w)
	if code, _, data := m.get("/tile/entries/000"); code != 401 || bytes.Contains(data, []byte("alice")) {
		t.Errorf("without a session: %d %s", code, data)
	}
	carol := w.member("auditors")
	for path, c := range map[string]struct{ from, width int }{"/tile/entries/000": {0, 256}, "/tile/entries/001": {256, 256}, "/tile/entries/002.p/88": {512, 88}, "/tile/entries/000.p/3": {0, 3}} {
		rec := carol.do("GET", "/tlog"+path, nil)
		entries, err := audit.ParseEntries(rec.Body.Bytes())
		if rec.Code != 200 || err != nil || len(entries) != c.width || rec.Header().Get("Cache-Control") != "no-store" || rec.Header().Get("Content-Type") != "application/octet-stream" {
			t.Fatalf("%s: %d, %d entries, %v, %v", path, rec.Code, len(entries), err, rec.Header())
		}
		tile := w.serve(httptest.NewRequest("GET", "/tlog"+strings.Replace(path, "entries", "0", 1), nil)).Body.Bytes()
		for i, e := range entries {
			if h := tlog.RecordHash(e); !bytes.Equal(h[:], tile[i*tlog.HashSize:(i+1)*tlog.HashSize]) {
				t.Fatalf("%s: entry %d is not the one that is hashed", path, i)
			}
		}
		if bytes.Contains(rec.Body.Bytes(), []byte("canary")) {
			t.Errorf("%s holds details", path)
		}
		if last := w.events()[len(w.events())-1]; last.Kind != audit.KindAuditRead || last.Resource != "log/entries" || last.Outcome != audit.Success ||
			string(last.Details) != fmt.Sprintf(`{"from":%d,"to":%d}`, c.from, c.from+c.width) {
			t.Errorf("%s left %+v %s", path, last, last.Details)
		}
	}
	if rec := carol.do("GET", "/tlog/tile/entries/009", nil); rec.Code != 404 {
		t.Errorf("what is not there: %d", rec.Code)
	}
	rec := w.login().do("GET", "/tlog/tile/entries/000", nil)
	if last := w.events()[len(w.events())-1]; rec.Code != 403 || last.Kind != audit.KindAuditRead || last.Outcome != audit.Denied {
		t.Errorf("for anybody: %d, %+v", rec.Code, last)
	}
}

func TestRollupsRoute(t *testing.T) {
	w := tlogWorld(t, audit.SegmentSize+10)
	rec := w.member("auditors").do("GET", api.RouteRollups, nil)
	lines := strings.Split(strings.TrimSuffix(rec.Body.String(), "\n"), "\n")
	if rec.Code != 200 || lines[0] != fmt.Sprintf(`{"rolled_up":%d}`, audit.SegmentSize) || lines[len(lines)-1] != `{"end":true}` {
		t.Fatalf("%d: %.300s", rec.Code, rec.Body)
	}
	check := audit.NewRollupCheck(audit.SegmentSize, audit.SegmentSize+10)
	for _, line := range lines[1 : len(lines)-1] {
		var r audit.Rollup
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		check.Add(r)
	}
	_, tree := w.db.Head()
	report, err := audit.Verifier{Checkpoint: tree, Rollups: check}.Verify(w.db.Rows(t.Context(), 0, tree.N))
	if err != nil || !report.OK() || report.Rollups < 10 {
		t.Errorf("%+v, %v", report, err)
	}
	if rec := w.login().do("GET", api.RouteRollups, nil); rec.Code != 403 {
		t.Errorf("for anybody: %d", rec.Code)
	}
}

// proven asks for a proof and checks it with the public key alone.
func proven(t *testing.T, w *world, p caller, name string) api.Proof {
	t.Helper()
	rec := p.do("GET", "/v1/audit/proof/"+name, nil)
	var got api.Proof
	if err := json.Unmarshal(rec.Body.Bytes(), &got); rec.Code != 200 || err != nil {
		t.Fatalf("%s: %d %v %s", name, rec.Code, err, rec.Body)
	}
	b := audit.Bundle{Format: audit.BundleFormat, Origin: w.logKey.Name(), Key: w.logKey.VerifierKey(), Index: got.Index, Event: got.Body, Salt: got.Salt, Details: got.Details,
		Inclusion: got.Inclusion, Checkpoint: string(got.Checkpoint)}
	if _, err := b.Verify(w.logKey.VerifierKey()); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return got
}

func TestProof(t *testing.T) {
	w := tlogWorld(t, 300)
	command, plain := w.events()[105], w.events()[104] // of bob, and of alice
	reader, auditor := w.member("readers"), w.member("auditors")
	for _, name := range []string{command.ID, "evt_" + command.ID, "105"} {
		if got := proven(t, w, reader, name); got.Index != 105 || !bytes.Contains(got.Details, []byte("canary 105")) || len(got.Salt) != audit.SaltSize {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := proven(t, w, auditor, command.ID); len(got.Details) != 0 || len(got.Salt) != 0 {
		t.Errorf("content for somebody who may not read it: %+v", got)
	}
	last := w.events()[len(w.events())-1]
	if last.Kind != audit.KindAuditRead || last.Resource != "events/all" || !strings.Contains(string(last.Details), command.ID) {
		t.Errorf("it left %+v %s", last, last.Details)
	}
	alice := w.login()
	if got := proven(t, w, alice, plain.ID); got.Index != 104 {
		t.Errorf("one's own event: %+v", got)
	}
	if last := w.events()[len(w.events())-1]; last.Resource != "events/own" {
		t.Errorf("it left %+v", last)
	}
	// What is not there looks, to somebody who may not know, like what is another's.
	for _, name := range []string{command.ID, audit.NewID(), "105", "100000", "-1", "007", "x", "evt_", "evt_evt_" + command.ID} {
		if rec := alice.do("GET", "/v1/audit/proof/"+name, nil); rec.Code != 403 {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
		if rec := auditor.do("GET", "/v1/audit/proof/"+name, nil); (rec.Code == 200) != (name == command.ID || name == "105") || rec.Code != 200 && rec.Code != 404 {
			t.Errorf("%s for an auditor: %d %s", name, rec.Code, rec.Body)
		}
	}
	if rec := alice.do("GET", "/v1/audit/proof/104", nil); rec.Code != 200 {
		t.Errorf("%d: %s", rec.Code, rec.Body)
	}
}

// TestProofOfTamperedRow: the broker hands out what it has; the proof does not fit it.
func TestProofOfTamperedRow(t *testing.T) {
	w := tlogWorld(t, 20)
	row, err := w.db.Event(t.Context(), w.events()[7].ID)
	if err != nil {
		t.Fatal(err)
	}
	row.Body = bytes.Replace(row.Body, []byte("bob"), []byte("eve"), 1)
	got, err := w.s.prove(t.Context(), reading{content: true}, row)
	if err != nil {
		t.Fatal(err)
	}
	p := got.(api.Proof)
	hashes, err := audit.Hashes(p.Inclusion)
	if err != nil {
		t.Fatal(err)
	}
	c, err := audit.OpenCheckpoint(p.Checkpoint, w.logKey.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	if err := audit.CheckInclusion(hashes, c.Tree, p.Index, p.Body); err == nil {
		t.Error("changed bytes were proven")
	}
	if diff := cmp.Diff(row.Body, p.Body); diff != "" {
		t.Error(diff)
	}
}
