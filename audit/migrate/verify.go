package migrate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store/backend"
)

// readHead reads the head, whose checkpoint must be of the log's key and sign the head's tree.
func readHead(ctx context.Context, e End, verifier note.Verifier) (backend.Head, error) {
	h, err := backend.ScanHead(e.QueryRowContext(ctx, `SELECT size, root, checkpoint, stamp FROM head`).Scan)
	if err != nil {
		return h, err
	}
	signed, err := audit.OpenCheckpoint(h.Checkpoint, verifier)
	if err != nil {
		return backend.Head{}, fmt.Errorf("the checkpoint in the database, under the log key of the configuration: %w", err)
	}
	if signed.Tree != h.Tree {
		return backend.Head{}, fmt.Errorf("the checkpoint signs %d events with the root %s, the head says %d with %s", signed.Tree.N, signed.Tree.Hash, h.Tree.N, h.Tree.Hash)
	}
	return h, nil
}

// verify recomputes the log from its events: every leaf, every stored hash of the tree, every
// indexed column and every rollup, up to the signed root.
func verify(ctx context.Context, e End, verifier note.Verifier) (backend.Head, error) {
	h, err := readHead(ctx, e, verifier)
	if err != nil {
		return backend.Head{}, err
	}
	tables, err := e.Tables(ctx)
	if err != nil {
		return backend.Head{}, err
	}
	rollups := audit.NewRollupCheck(audit.RolledUp(h.Tree.N), h.Tree.N)
	if err := addRollups(ctx, e, tables, rollups); err != nil {
		return backend.Head{}, err
	}
	var grown grownTree
	report, err := audit.Verifier{Checkpoint: h.Tree, Rollups: rollups}.Verify(grown.through(events(ctx, e, tables["events"])))
	if err != nil {
		return backend.Head{}, err
	}
	odd := grown.compare(e.Rows(ctx, "tree", []string{"chunk", "hashes"}))
	if err := problems(report); err != nil {
		return backend.Head{}, errors.Join(err, blame(ctx, e, tables["events"], odd))
	}
	if odd != nil {
		return backend.Head{}, odd
	}
	return h, nil
}

// blame names the first event whose leaf is not the one that was stored, where odd is of such a one.
func blame(ctx context.Context, e End, columns []string, odd error) error {
	var chunk *chunkError
	if !errors.As(odd, &chunk) || chunk.stored == nil {
		return odd
	}
	again := grownTree{watch: chunk}
	for range again.through(events(ctx, e, columns)) {
		if again.found != nil {
			return again.found
		}
	}
	return odd
}

// chunkError is a row of the table tree that does not hold the hashes of the events.
type chunkError struct {
	chunk  int64
	stored []byte // nil where there is no such row
}

func (e *chunkError) Error() string {
	return fmt.Sprintf("the stored hashes %d to %d of the tree are not those of the events", e.chunk*backend.HashesPerChunk, (e.chunk+1)*backend.HashesPerChunk-1)
}

// maxNamed is how many problems an error names.
const maxNamed = 5

func problems(r audit.Report) error {
	if r.OK() {
		return nil
	}
	lines := []string{fmt.Sprintf("%d problems", r.Found)}
	for _, p := range r.Problems[:min(len(r.Problems), maxNamed)] {
		lines = append(lines, p.What)
	}
	return errors.New(strings.Join(lines, "\n"))
}

// events yields the table as the verifier reads it.
func events(ctx context.Context, e End, columns []string) iter.Seq2[audit.Row, error] {
	return func(yield func(audit.Row, error) bool) {
		for values, err := range e.Rows(ctx, "events", columns) {
			row := audit.Row{Columns: make(map[string]string, len(columns))}
			if err == nil {
				row, err = eventRow(columns, values)
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

func eventRow(columns []string, values []any) (audit.Row, error) {
	row := audit.Row{Columns: make(map[string]string, len(columns))}
	for i, name := range columns {
		text, ok := asText(values[i])
		switch {
		case !ok:
		case name == "body":
			row.Body = []byte(text)
		case name == "salt":
			row.Salt = []byte(text)
		case name == "details":
			row.Details = []byte(text)
		default:
			row.Columns[name] = text
		}
	}
	var err error
	if row.Index, err = strconv.ParseInt(row.Columns["idx"], 10, 64); err != nil {
		return row, fmt.Errorf("an event has the index %.40q", row.Columns["idx"])
	}
	return row, nil
}

// asText is a stored value as text; ok is false for NULL.
func asText(v any) (text string, ok bool) {
	switch v := v.(type) {
	case int64:
		return strconv.FormatInt(v, 10), true
	case string:
		return v, true
	case []byte:
		return string(v), true
	}
	return "", false
}

// cubes are the tables of rollups.
var cubes = map[string]string{"rollup_user": audit.CubeUser, "rollup_target": audit.CubeTarget, "rollup_full": audit.CubeFull}

func addRollups(ctx context.Context, e End, tables map[string][]string, check *audit.RollupCheck) error {
	for table, cube := range cubes {
		columns := tables[table]
		for values, err := range e.Rows(ctx, table, columns) {
			if err != nil {
				return err
			}
			r := audit.Rollup{RollupKey: audit.RollupKey{Cube: cube}}
			var day string
			to := map[string]*string{"day": &day, "kind": &r.Kind, "outcome": &r.Outcome, "email": &r.Email, "sub": &r.Sub, "target": &r.Target}
			for i, name := range columns {
				if name == "n" {
					r.N, _ = values[i].(int64)
				} else if at := to[name]; at != nil {
					*at, _ = asText(values[i])
				}
			}
			days, err := strconv.ParseInt(day, 10, 32)
			if err != nil {
				return fmt.Errorf("a row of %s has the day %.40q", table, day)
			}
			r.Day = time.Unix(days*86_400, 0).UTC().Format(time.DateOnly)
			check.Add(r)
		}
	}
	return nil
}

// grownTree is what the table tree must hold, as a fingerprint of each row: the hashes of 5 million
// events are 320 MB, their fingerprints 2.5 MB.
type grownTree struct {
	edge   audit.Frontier
	tail   []byte
	chunks [][16]byte
	buf    []tlog.Hash

	watch *chunkError // where set, found becomes the event whose leaf differs from that row
	found error
}

// through grows the tree by the rows that pass.
func (g *grownTree) through(rows iter.Seq2[audit.Row, error]) iter.Seq2[audit.Row, error] {
	return func(yield func(audit.Row, error) bool) {
		for row, err := range rows {
			if err == nil {
				leaf := tlog.RecordHash(row.Body)
				g.look(row, leaf)
				g.add(leaf)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// look compares a leaf with the stored one, where it is in the row that is watched. A leaf stands
// before all that is hashed from it, so the first difference is an event's.
func (g *grownTree) look(row audit.Row, leaf tlog.Hash) {
	if g.watch == nil || g.found != nil {
		return
	}
	index := tlog.StoredHashIndex(0, row.Index)
	at := int(index%backend.HashesPerChunk) * tlog.HashSize
	if index/backend.HashesPerChunk != g.watch.chunk || len(g.watch.stored) < at+tlog.HashSize || tlog.Hash(g.watch.stored[at:at+tlog.HashSize]) == leaf {
		return
	}
	g.found = fmt.Errorf("event %d (%.64s) or its stored hash was changed: its bytes are not those that the tree was grown from", row.Index, row.Columns["id"])
}

func (g *grownTree) add(leaf tlog.Hash) {
	g.buf = g.edge.Add(leaf, g.buf[:0])
	for i := range g.buf {
		g.tail = append(g.tail, g.buf[i][:]...)
	}
	const size = backend.HashesPerChunk * tlog.HashSize
	for len(g.tail) >= size {
		g.chunks = append(g.chunks, fingerprint(g.tail[:size]))
		g.tail = g.tail[:copy(g.tail, g.tail[size:])]
	}
}

func fingerprint(b []byte) [16]byte {
	h := sha256.Sum256(b)
	return [16]byte(h[:16])
}

// compare holds the table against what was grown.
func (g *grownTree) compare(rows iter.Seq2[[]any, error]) error {
	want := g.chunks
	if len(g.tail) > 0 {
		want = append(slices.Clip(want), fingerprint(g.tail))
	}
	n := 0
	for values, err := range rows {
		if err != nil {
			return err
		}
		chunk, _ := values[0].(int64)
		hashes, _ := asText(values[1])
		if chunk != int64(n) || n >= len(want) || fingerprint([]byte(hashes)) != want[n] {
			return &chunkError{chunk: int64(n), stored: []byte(hashes)}
		}
		n++
	}
	if n != len(want) {
		return &chunkError{chunk: int64(n)}
	}
	return nil
}
