package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/keychain/secret"
)

// logBroker is a broker with a log and nothing else. It lies as a test says.
type logBroker struct {
	t      testing.TB
	key    *audit.LogKey
	server *httptest.Server

	mu     sync.Mutex
	rows   []audit.Row
	hashes []tlog.Hash
	edge   audit.Frontier
	note   []byte // the signed checkpoint

	serve    func(rows []audit.Row) []audit.Row                // what is sent of the rows; nil: as they are
	rollups  func(upTo *int64, r *[]audit.Rollup)              // what is sent of the rollups
	answer   func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
	proof    func(p *api.Proof)
	asked    []string
	stopping bool // streams that follow end
}

func newLogBroker(t testing.TB, n int) *logBroker {
	t.Helper()
	key, err := audit.GenerateLogKey("sega.test/audit")
	if err != nil {
		t.Fatal(err)
	}
	b := &logBroker{t: t, key: key}
	b.sign()
	b.grow(n)
	b.server = httptest.NewTLSServer(b)
	t.Cleanup(b.server.Close)
	return b
}

// grow appends n plain events.
func (b *logBroker) grow(n int) {
	b.t.Helper()
	for range n {
		e := event(audit.KindSSHCert, audit.Success, "", "")
		e.Actor.Sub, e.Resource = fmt.Sprint("u", len(b.rows)%3), "host/db1"
		if len(b.rows)%4 == 0 {
			e.Details = json.RawMessage(`{"serial":"7"}`)
		}
		b.append(e)
	}
}

func (b *logBroker) append(e audit.Event) {
	b.t.Helper()
	row, err := audit.Seal(e)
	if err != nil {
		b.t.Fatal(err)
	}
	row.Place(int64(len(b.rows)))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = append(b.rows, row)
	b.hashes = append(b.hashes, b.edge.Add(tlog.RecordHash(row.Body), nil)...)
	b.sign()
}

func (b *logBroker) sign() {
	var err error
	if b.note, err = audit.SignCheckpoint(b.key.Name(), b.edge.Tree(), b.key); err != nil {
		b.t.Fatal(err)
	}
}

// rewrite makes the history another one from an event on, and signs it.
func (b *logBroker) rewrite(from int) {
	b.t.Helper()
	rows := b.rows
	b.rows, b.hashes, b.edge = nil, nil, audit.Frontier{}
	for i, row := range rows {
		e, err := audit.Parse(row.Body)
		if err != nil {
			b.t.Fatal(err)
		}
		e.Details, e.DetailsDigest = row.Details, ""
		if i == from {
			e.Reason = "another reason"
		}
		if i < from { // as it was, salt included
			b.rows = append(b.rows, row)
			b.hashes = append(b.hashes, b.edge.Add(tlog.RecordHash(row.Body), nil)...)
			continue
		}
		b.append(e)
	}
}

// ReadHashes implements tlog.HashReader.
func (b *logBroker) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		out[i] = b.hashes[index]
	}
	return out, nil
}

func (b *logBroker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, r.URL.Path+"?"+r.URL.RawQuery)
	w.Header().Set(api.HeaderNonce, "nonce")
	w.Header().Set(api.HeaderCheckpoint, base64.StdEncoding.EncodeToString(b.note))
	if b.answer != nil && b.answer(w, r) {
		return
	}
	q := r.URL.Query()
	from, _ := strconv.ParseInt(q.Get("from"), 10, 64)
	to, _ := strconv.ParseInt(q.Get("to"), 10, 64)
	switch size := b.edge.Size(); {
	case r.URL.Path == api.RouteCheckpoint:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(b.note)
	case r.URL.Path == api.RouteConsistency && to <= size:
		proof := tlog.TreeProof{}
		if from > 0 {
			proof, _ = tlog.ProveTree(to, from, b)
		}
		b.json(w, api.Consistency{From: from, To: to, Proof: wire(proof)})
	case r.URL.Path == api.RouteLog:
		b.sendRows(w, from, to)
	case r.URL.Path == api.RouteRollups:
		b.sendRollups(w)
	case strings.HasPrefix(r.URL.Path, "/tlog/tile/"):
		b.sendTile(w, strings.TrimPrefix(r.URL.Path, "/tlog/"))
	case strings.HasPrefix(r.URL.Path, "/v1/audit/proof/"):
		b.sendProof(w, strings.TrimPrefix(r.URL.Path, "/v1/audit/proof/"))
	case strings.HasPrefix(r.URL.Path, "/v1/recordings/"):
		b.refuse(w, api.Errorf(api.KindNotFound, "no recording"))
	default:
		b.refuse(w, api.Errorf(api.KindInvalid, "not here"))
	}
}

func wire(hashes []tlog.Hash) [][]byte {
	out := [][]byte{}
	for _, h := range hashes {
		out = append(out, h[:])
	}
	return out
}

func (b *logBroker) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (b *logBroker) refuse(w http.ResponseWriter, p *api.Problem) {
	p.Status = p.Kind.Status()
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

func (b *logBroker) sendRows(w http.ResponseWriter, from, to int64) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	rows := make([]audit.Row, len(b.rows))
	for i, row := range b.rows {
		e, err := audit.Parse(row.Body)
		if err != nil {
			b.t.Error(err)
		}
		rows[i] = audit.Row{Index: row.Index, Body: bytes.Clone(row.Body), Salt: bytes.Clone(row.Salt), Details: bytes.Clone(row.Details), Columns: audit.Columns(row.Index, e)}
	}
	if b.serve != nil {
		rows = b.serve(rows)
	}
	for _, row := range rows {
		if row.Index < from || row.Index >= to {
			continue
		}
		if row.Index < int64(len(b.rows)) {
			h := b.hashes[tlog.StoredHashIndex(0, row.Index)]
			row.Leaf = h[:]
		}
		_ = json.NewEncoder(w).Encode(api.LogRow{Index: row.Index, Body: row.Body, Salt: row.Salt, Details: row.Details, Columns: row.Columns, Leaf: row.Leaf})
	}
	_, _ = w.Write([]byte("{\"end\":true}\n"))
}

func (b *logBroker) sendRollups(w http.ResponseWriter) {
	upTo := audit.RolledUp(int64(len(b.rows)))
	counts := map[audit.RollupKey]int64{}
	for _, row := range b.rows[:upTo] {
		e, _ := audit.Parse(row.Body)
		for _, k := range audit.RollupKeys(e) {
			counts[k]++
		}
	}
	all := []audit.Rollup{}
	for k, n := range counts {
		all = append(all, audit.Rollup{RollupKey: k, N: n})
	}
	if b.rollups != nil {
		b.rollups(&upTo, &all)
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	fmt.Fprintf(w, "{\"rolled_up\":%d}\n", upTo)
	for _, r := range all {
		_ = json.NewEncoder(w).Encode(r)
	}
	_, _ = w.Write([]byte("{\"end\":true}\n"))
}

func (b *logBroker) sendTile(w http.ResponseWriter, path string) {
	t, err := audit.ParseTilePath(path)
	if err != nil || !audit.TileIn(t, b.edge.Size()) || audit.IsEntries(t) {
		b.refuse(w, api.Errorf(api.KindNotFound, "no tile"))
		return
	}
	data, err := tlog.ReadTileData(t, b)
	if err != nil {
		b.t.Error(err)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(data)
}

func (b *logBroker) sendProof(w http.ResponseWriter, name string) {
	for _, row := range b.rows {
		if name != strconv.FormatInt(row.Index, 10) && strings.TrimPrefix(name, "evt_") != row.Columns["id"] {
			continue
		}
		proof, err := tlog.ProveRecord(b.edge.Size(), row.Index, b)
		if err != nil {
			b.t.Error(err)
		}
		p := api.Proof{Index: row.Index, Body: bytes.Clone(row.Body), Salt: row.Salt, Details: row.Details, Inclusion: wire(proof), Checkpoint: b.note}
		if b.proof != nil {
			b.proof(&p)
		}
		b.json(w, p)
		return
	}
	b.refuse(w, api.Errorf(api.KindNotFound, "no such event"))
}

// reviewer is a person with a session at the broker, and a machine that remembers.
type reviewer struct {
	b         *logBroker
	app       *app
	out, talk *bytes.Buffer
}

func (b *logBroker) reviewer() *reviewer {
	b.t.Helper()
	ca := filepath.Join(b.t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.server.Certificate().Raw}), 0o600); err != nil {
		b.t.Fatal(err)
	}
	a, out, talk := testApp(b.t, "SEGA_CA_FILE="+ca)
	key, err := dpop.GenerateKey()
	if err != nil {
		b.t.Fatal(err)
	}
	sealed, err := saved{Origin: b.server.URL, LogKey: b.key.VerifierKey(), Key: key, Session: api.Session{Token: secret.FromString("t"), LoginID: "ses_1", Expires: noon.Add(time.Hour), NotAfter: noon.Add(time.Hour)}}.seal()
	if err != nil {
		b.t.Fatal(err)
	}
	store, err := a.secrets()
	if err == nil {
		err = store.Update(func(items map[string]secret.Secret) error { items[itemSession] = sealed; return nil })
	}
	if err != nil {
		b.t.Fatal(err)
	}
	s := &session{app: a}
	s.pin(b.t, api.Configuration{Origin: b.server.URL, LogKey: b.key.VerifierKey()})
	return &reviewer{b: b, app: a, out: out, talk: talk}
}

// sega runs a command and returns its exit code.
func (r *reviewer) sega(args ...string) int {
	r.b.t.Helper()
	r.out.Reset()
	r.talk.Reset()
	return run(r.b.t.Context(), args, r.app)
}

// verify runs `audit verify --json` and returns the code and what was found.
func (r *reviewer) verify(args ...string) (int, verification) {
	r.b.t.Helper()
	code := r.sega(append([]string{"audit", "verify", "--json"}, args...)...)
	var v verification
	if r.out.Len() > 0 {
		if err := json.Unmarshal(r.out.Bytes(), &v); err != nil {
			r.b.t.Fatalf("%v: %s", err, r.out)
		}
	}
	return code, v
}

func (v verification) has(f audit.Finding) bool {
	for _, p := range v.Problems {
		if p.Finding == f && p.What != "" {
			return true
		}
	}
	return false
}

// discard is an answer that nobody reads.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
