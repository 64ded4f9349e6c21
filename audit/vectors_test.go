package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var update = flag.Bool("update", false, "write the vectors in testdata/log anew")

// vectors is a mirror of a small log, as docs/audit-format.md describes it.
const vectors = "testdata/log"

// vectorSize has one full tile and a partial one.
const vectorSize = 258

// vectorRow is a line of log.ndjson, as the broker sends it.
type vectorRow struct {
	Index   int64             `json:"idx"`
	Body    []byte            `json:"body"`
	Salt    []byte            `json:"salt,omitempty"`
	Details []byte            `json:"details,omitempty"`
	Columns map[string]string `json:"columns"`
	Leaf    []byte            `json:"leaf"`
}

type vectorInclusion struct {
	Index int64    `json:"index"`
	Size  int64    `json:"size"`
	Proof [][]byte `json:"proof"`
}

type vectorConsistency struct {
	From  int64    `json:"from"`
	To    int64    `json:"to"`
	Proof [][]byte `json:"proof"`
}

type vectorProofs struct {
	Inclusion   []vectorInclusion   `json:"inclusion"`
	Consistency []vectorConsistency `json:"consistency"`
}

// breakage is a change of one byte that a verifier must notice.
type breakage struct {
	What string `json:"what"`
	File string `json:"file"`
	At   int    `json:"at"`  // offset of the byte
	Xor  byte   `json:"xor"` // what it is changed by
}

func vectorSizes() []int64 { return []int64{1, 2, 7, 255, 256, vectorSize} }

func vectorFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectors, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func putVector(t testing.TB, path string, data []byte) {
	t.Helper()
	full := filepath.Join(vectors, filepath.FromSlash(path))
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func vectorJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

// vectorEvents cover what a reader may stumble over: escapes, times of every length, empty values.
func vectorEvents() (out []Event) {
	times := []time.Duration{0, 1, 120, 450_000_000, 999_999_999}
	for i := range vectorSize {
		e := New(time.Unix(1_770_000_000+int64(i)*1800, 0).Add(times[i%len(times)]), []string{KindUserLogin, KindAWSAssume, KindSSHHop}[i%3], []Outcome{Success, Denied, Success, Failure}[i%4])
		e.Actor = Actor{Kind: ActorUser, Iss: "https://idp.example", Sub: fmt.Sprint("u", i%3), Email: fmt.Sprintf("u%d@example.com", i%3)}
		e.Resource = []string{"session/ses_1", "role/prod", "host/db1"}[i%3]
		if i%16 == 0 {
			e.Details = json.RawMessage(fmt.Sprintf(`{"serial": "%d", "note": "<é> \u2028"}`, i))
		}
		switch i {
		case 5:
			e.Reason, e.PolicyIDs = "a <b> & \"c\" \\ \u2028\u2029 \x01\b\f\n\r\t\x7f é 𝄞", []string{"one", "two & <three>"}
		case 6:
			e.Actor = Actor{Kind: ActorAnonymous}
		}
		out = append(out, e)
	}
	return out
}

// TestUpdateVectors writes the vectors, with a key, IDs and salts of their own, when asked to.
func TestUpdateVectors(t *testing.T) {
	if !*update {
		return // TestVectors reads what is there
	}
	if err := os.RemoveAll(vectors); err != nil {
		t.Fatal(err)
	}
	key, err := GenerateLogKey("sega.example/audit")
	if err != nil {
		t.Fatal(err)
	}
	putVector(t, "key", []byte(key.VerifierKey()+"\n"))
	s := &stored{}
	var edge Frontier
	for i, e := range vectorEvents() {
		row, err := Seal(e)
		if err != nil {
			t.Fatal(err)
		}
		row.Place(int64(i))
		s.rows, s.hashes = append(s.rows, row), append(s.hashes, edge.Add(tlog.RecordHash(row.Body), nil)...)
	}
	s.tree = edge.Tree()
	putLog(t, s)
	putTree(t, s, key)
	for name, b := range map[string]Bundle{"with-details.json": bundleOf(t, s, key, 16, vectorSize), "escapes.json": bundleOf(t, s, key, 5, 7)} {
		data, err := b.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		putVector(t, "bundle/"+name, data)
	}
	b := bundleOf(t, s, key, 32, 256)
	b.Salt, b.Details = nil, nil
	data, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	putVector(t, "bundle/without-details.json", data)
	putVector(t, "broken.json", vectorJSON(t, breakages(t)))
}

// putLog writes rows and rollups as the broker sends them.
func putLog(t *testing.T, s *stored) {
	var rows, counts bytes.Buffer
	for i, row := range s.rows {
		leaf := tlog.RecordHash(row.Body)
		if err := json.NewEncoder(&rows).Encode(vectorRow{Index: int64(i), Body: row.Body, Salt: row.Salt, Details: row.Details, Columns: row.Columns, Leaf: leaf[:]}); err != nil {
			t.Fatal(err)
		}
	}
	rows.WriteString(`{"end":true}` + "\n")
	putVector(t, "log.ndjson", rows.Bytes())
	counts.WriteString(`{"rolled_up":256}` + "\n") // the segments of a real log are longer
	for _, r := range rollupsOf(t, seq(s.rows), 256) {
		if err := json.NewEncoder(&counts).Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	counts.WriteString(`{"end":true}` + "\n")
	putVector(t, "rollups.ndjson", counts.Bytes())
}

// putTree writes checkpoints, every tile that a tree of one of their sizes has, entries and proofs.
func putTree(t *testing.T, s *stored, key *LogKey) {
	var proofs vectorProofs
	for _, size := range vectorSizes() {
		msg, err := SignCheckpoint(key.Name(), s.root(t, size), key)
		if err != nil {
			t.Fatal(err)
		}
		putVector(t, fmt.Sprintf("checkpoint/%d", size), msg)
		for _, tile := range tlog.NewTiles(TileHeight, 0, size) {
			data, err := tlog.ReadTileData(tile, s.hashes)
			if err != nil {
				t.Fatal(err)
			}
			putVector(t, TilePath(tile), data)
		}
		for _, index := range []int64{0, size / 2, size - 1} {
			proof, err := tlog.ProveRecord(size, index, s.hashes)
			if err != nil {
				t.Fatal(err)
			}
			proofs.Inclusion = append(proofs.Inclusion, vectorInclusion{index, size, rawHashes(proof)})
		}
		for _, from := range vectorSizes() {
			if from > size {
				break
			}
			proof, err := tlog.ProveTree(size, from, s.hashes)
			if err != nil {
				t.Fatal(err)
			}
			proofs.Consistency = append(proofs.Consistency, vectorConsistency{from, size, rawHashes(proof)})
		}
	}
	putVector(t, "proofs.json", vectorJSON(t, proofs))
	for n := int64(0); n<<TileHeight < vectorSize; n++ {
		tile := EntriesTile(n, int(min(256, vectorSize-n<<TileHeight)))
		var data []byte
		for _, row := range s.rows[n<<TileHeight : n<<TileHeight+int64(tile.W)] {
			var err error
			if data, err = AppendEntry(data, row.Body); err != nil {
				t.Fatal(err)
			}
		}
		putVector(t, TilePath(tile), data)
	}
}

func rawHashes(hashes []tlog.Hash) [][]byte {
	out := [][]byte{}
	for _, h := range hashes {
		out = append(out, h[:])
	}
	return out
}

// breakages has one for each thing that a verifier checks.
func breakages(t *testing.T) []breakage {
	in := func(file, text string, more int) int {
		at := bytes.Index(vectorFile(t, file), []byte(text))
		if at < 0 {
			t.Fatalf("%s has no %q", file, text)
		}
		return at + more
	}
	return []breakage{
		{"the size that a checkpoint signs", "checkpoint/7", in("checkpoint/7", "\n7\n", 1), 1},
		{"the root that a checkpoint signs", "checkpoint/256", in("checkpoint/256", "\n256\n", 9), 1},
		{"the signature of a checkpoint", "checkpoint/258", len(vectorFile(t, "checkpoint/258")) - 20, 1},
		{"the public key", "key", in("key", "+A", 20), 1},
		{"a hash of a full tile", "tile/0/000", 4000, 1},
		{"a hash of a partial tile", "tile/0/001.p/2", 40, 0x80},
		{"a hash of an upper tile", "tile/1/000.p/1", 3, 4},
		{"a byte of an entry", "tile/entries/000", 300, 1},
		{"the length of an entry", "tile/entries/001.p/2", 1, 1},
		{"the body of an event", "log.ndjson", in("log.ndjson", `"idx":9,"body":"`, 100), 1},
		{"the salt of an event", "log.ndjson", in("log.ndjson", `"salt":"`, 12), 1},
		{"the details of an event", "log.ndjson", in("log.ndjson", `"details":"`, 16), 1},
		{"a column", "log.ndjson", in("log.ndjson", `"email":"u`, 10), 1},
		{"the time in a column", "log.ndjson", in("log.ndjson", `"time":"`, 20), 1},
		{"the index of an event", "log.ndjson", in("log.ndjson", `"idx":200,`, 8), 1},
		{"the stored hash of an event", "log.ndjson", in("log.ndjson", `"leaf":"`, 10), 1},
		{"an inclusion proof", "proofs.json", in("proofs.json", `"proof": [`+"\n", 30), 1},
		{"a consistency proof", "proofs.json", in("proofs.json", `"to": 258`, 60), 1},
		{"the count of a rollup", "rollups.ndjson", in("rollups.ndjson", `"n":`, 4), 1},
		{"the key of a rollup", "rollups.ndjson", in("rollups.ndjson", `"sub":"u`, 8), 1},
		{"the event in a bundle", "bundle/with-details.json", in("bundle/with-details.json", `"event": "`, 50), 1},
		{"the details in a bundle", "bundle/with-details.json", in("bundle/with-details.json", `"details": "`, 16), 1},
		{"the proof in a bundle", "bundle/escapes.json", in("bundle/escapes.json", `"inclusion": [`+"\n", 25), 1},
		{"the index in a bundle", "bundle/without-details.json", in("bundle/without-details.json", `"idx": 32`, 8), 1},
		{"the checkpoint in a bundle", "bundle/without-details.json", in("bundle/without-details.json", `\n256\n`, 10), 1},
	}
}

// TestVectors holds this package against the published vectors.
func TestVectors(t *testing.T) {
	key := strings.TrimSpace(string(vectorFile(t, "key")))
	verifier, err := note.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	roots := map[int64]tlog.Tree{}
	for _, size := range vectorSizes() {
		c, err := OpenCheckpoint(vectorFile(t, fmt.Sprintf("checkpoint/%d", size)), verifier)
		if err != nil || c.Tree.N != size {
			t.Fatalf("checkpoint %d: %+v, %v", size, c, err)
		}
		roots[size] = c.Tree
	}
	rows := vectorRows(t)
	report, err := VerifyLog(seq(rows), roots[vectorSize], []tlog.Tree{roots[1], roots[2], roots[7], roots[255], roots[256]})
	if err != nil || !report.OK() || report.Remembered != 5 {
		t.Fatalf("%+v, %v", report, err)
	}
	for size, tree := range roots {
		for _, i := range []int64{0, size - 1} {
			hashes, err := tlog.TileHashReader(tree, vectorTiles{t}).ReadHashes([]int64{tlog.StoredHashIndex(0, i)})
			if err != nil || hashes[0] != tlog.RecordHash(rows[i].Body) {
				t.Errorf("tiles of %d, leaf %d: %v", size, i, err)
			}
		}
	}
	checkVectorProofs(t, roots, rows)
	bundles, err := fs.Glob(os.DirFS(vectors), "bundle/*.json")
	if err != nil || len(bundles) != 3 {
		t.Fatalf("%q, %v", bundles, err)
	}
	for _, path := range bundles {
		if p, err := judge(vectorFile(t, path), key); err != nil || p.Event.ID != rows[p.Index].Columns["id"] {
			t.Errorf("%s: %+v, %v", path, p, err)
		}
	}
	if got, want := rollupLines(t), rollupsOf(t, seq(rows), 256); !slices.Equal(got, want) {
		t.Errorf("rollups are\n%v, want\n%v", got, want)
	}
}

func vectorRows(t *testing.T) (rows []Row) {
	d := json.NewDecoder(bytes.NewReader(vectorFile(t, "log.ndjson")))
	for range vectorSize {
		var r vectorRow
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, Row(r))
	}
	return rows
}

func rollupLines(t *testing.T) (out []Rollup) {
	lines := strings.Split(strings.TrimSpace(string(vectorFile(t, "rollups.ndjson"))), "\n")
	for _, line := range lines[1 : len(lines)-1] {
		var r Rollup
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func checkVectorProofs(t *testing.T, roots map[int64]tlog.Tree, rows []Row) {
	var proofs vectorProofs
	if err := json.Unmarshal(vectorFile(t, "proofs.json"), &proofs); err != nil || len(proofs.Inclusion) < 10 || len(proofs.Consistency) < 10 {
		t.Fatalf("%d, %d, %v", len(proofs.Inclusion), len(proofs.Consistency), err)
	}
	for _, p := range proofs.Inclusion {
		hashes, err := Hashes(p.Proof)
		if err == nil {
			err = CheckInclusion(hashes, roots[p.Size], p.Index, rows[p.Index].Body)
		}
		if err != nil {
			t.Errorf("event %d in %d: %v", p.Index, p.Size, err)
		}
	}
	for _, p := range proofs.Consistency {
		hashes, err := Hashes(p.Proof)
		if err == nil {
			err = CheckConsistency(hashes, roots[p.From], roots[p.To])
		}
		if err != nil {
			t.Errorf("%d to %d: %v", p.From, p.To, err)
		}
	}
}

// vectorTiles reads the mirror as any server of static files would hand it out.
type vectorTiles struct{ t *testing.T }

func (vectorTiles) Height() int { return TileHeight }

func (v vectorTiles) ReadTiles(tiles []tlog.Tile) (out [][]byte, err error) {
	for _, tile := range tiles {
		out = append(out, vectorFile(v.t, TilePath(tile)))
	}
	return out, nil
}

func (vectorTiles) SaveTiles([]tlog.Tile, [][]byte) {}

// TestVectorsByAStranger runs the verifier that was written from the document alone, on the vectors
// and on each breakage of them.
func TestVectorsByAStranger(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("the independent verifier needs python3")
		}
		t.Skip("the independent verifier needs python3")
	}
	if out, err := exec.CommandContext(t.Context(), python, "testdata/verify.py", vectors).CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "ok: 258 events, 6 checkpoints") {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), python, "testdata/verify.py", "bundle", vectors+"/key", vectors+"/bundle/escapes.json").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	var broken []breakage
	if err := json.Unmarshal(vectorFile(t, "broken.json"), &broken); err != nil || len(broken) < 20 {
		t.Fatalf("%d breakages, %v", len(broken), err)
	}
	for _, b := range broken {
		t.Run(b.What, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(vectors)); err != nil {
				t.Fatal(err)
			}
			data := vectorFile(t, b.File)
			data[b.At] ^= b.Xor
			if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(b.File)), data, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), python, "testdata/verify.py", dir).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.HasPrefix(string(out), "WRONG: ") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
