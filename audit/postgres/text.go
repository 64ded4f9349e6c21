package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store/backend"
)

// The text index is a table of blocks of events: what is searched for as free text in any event of a
// block stands in the block's text, each different line once. Events of a block have much text in
// common, so that the index is a small part of the log, and looking at a block's events is quick.
// The blocks of a segment are written when it is complete, aside of the committer.
const (
	blockEvents   = 64
	segmentBlocks = audit.SegmentSize / blockEvents
)

// maxBlockText is the length of a block's text in bytes, beyond which it has none: then its events
// are looked at in every search.
const maxBlockText = 1 << 20

// folded is a text as the index has it: letters of ASCII in lower case, and one mark for whatever
// is not ASCII, so that no locale has a say.
func folded(s string) string {
	b := []byte(lowerASCII(s))
	for i, ch := range b {
		if ch == 0 || ch >= 0x7f {
			b[i] = 0x7f
		}
	}
	return string(b)
}

// textFields are the fields whose values stand in the text index, each a line. Many events share
// those from the third on: where another index leads to what is searched, it knows better.
var textFields = []query.Name{query.Reason, query.Ticket, query.Source, query.Node, query.Policy}

const ownFields = 2 // of textFields

// textPart is the part of a query that the text index knows, of fields only these, and that all it
// selects fulfils; nil where there is none.
func textPart(x query.Expr, fields []query.Name) query.Expr {
	switch x := x.(type) {
	case query.Text:
		if x.Value != "" {
			return x
		}
	case query.Field:
		if slices.Contains(fields, x.Name) && x.Value != "" {
			return x
		}
	case query.And:
		var parts query.And
		for _, p := range x {
			if t := textPart(p, fields); t != nil {
				parts = append(parts, t)
			}
		}
		if len(parts) > 0 {
			return parts
		}
	case query.Or:
		var parts query.Or
		for _, p := range x {
			t := textPart(p, fields)
			if t == nil {
				return nil
			}
			parts = append(parts, t)
		}
		if len(parts) > 0 {
			return parts
		}
	}
	return nil
}

// blockCondition is what textPart gave, over the table of blocks.
func (s *statement) blockCondition(x query.Expr) string {
	var parts []query.Expr
	by := " AND "
	switch x := x.(type) {
	case query.Text:
		return "text LIKE " + s.param("%"+likeText(folded(x.Value))+"%")
	case query.Field:
		return "text LIKE " + s.param("%"+likeText(folded(bounded(x)))+"%")
	case query.And:
		parts = x
	case query.Or:
		parts, by = x, " OR "
	}
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = s.blockCondition(p)
	}
	return "(" + strings.Join(texts, by) + ")"
}

// bounded is the value of a field with the ends of a line of the block's text, as far as they are known.
func bounded(x query.Field) string {
	switch x.Op {
	case query.Equal:
		return "\n" + x.Value + "\n"
	case query.Prefix:
		return "\n" + x.Value
	}
	return x.Value
}

// So many blocks are looked at together: few at first, which most often have the first page.
const (
	firstBlocks = 8
	pageBlocks  = 64
)

// blockPage reads the rows of the next blocks that may have the text, and returns what is left of
// the interval.
func (l *Log) blockPage(ctx context.Context, q query.Query, text query.Expr, in interval, limit int) ([]audit.Row, interval, error) {
	blocks, err := l.blocks(ctx, q, text, in, limit)
	if err != nil || len(blocks) == 0 {
		return nil, interval{}, err
	}
	var s statement
	where, _ := s.where(q)
	page, whole, err := l.page(ctx, fmt.Sprintf(`SELECT %s FROM events WHERE idx = ANY(ARRAY(SELECT b * %d + i FROM unnest(%s::bigint[]) b, generate_series(0, %d) i))
		AND idx >= %s AND idx < %s AND %s%s`, sqlRowList, blockEvents, s.param(blocks), blockEvents-1, s.param(in.from), s.param(in.to), where, order(q.Newest)), s.args...)
	if !whole && len(page) > 0 {
		return page, in.cut(page[len(page)-1].Index, q.Newest), err
	}
	if len(blocks) < limit {
		return page, interval{}, err
	}
	last := blocks[len(blocks)-1]
	if !q.Newest {
		last = last*blockEvents + blockEvents - 1
	} else {
		last *= blockEvents
	}
	return page, in.cut(last, q.Newest), err
}

// blocks returns the numbers of the next blocks that may have the text.
func (l *Log) blocks(ctx context.Context, q query.Query, text query.Expr, in interval, limit int) (blocks []int64, err error) {
	var s statement
	sqlText := fmt.Sprintf(`SELECT block AS idx FROM event_text WHERE block >= %s AND block <= %s AND (text IS NULL OR %s)%s LIMIT %d`,
		s.param(in.from/blockEvents), s.param((in.to-1)/blockEvents), s.blockCondition(text), order(q.Newest), limit)
	err = l.scan(ctx, func(ctx context.Context, tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, sqlText, s.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var b int64
			if err := rows.Scan(&b); err != nil {
				return err
			}
			blocks = append(blocks, b)
		}
		return rows.Err()
	})
	return blocks, err
}

const sqlTextEnd = `SELECT coalesce(max(block) + 1, 0) FROM event_text`

// textEnd is the number of events that the text index covers.
func textEnd(ctx context.Context, tx *sql.Tx) (end int64, err error) {
	err = tx.QueryRowContext(ctx, sqlTextEnd).Scan(&end)
	return end * blockEvents, err
}

// Indexed waits until the text index covers the complete segments of the first size events, by
// whichever process. Searches need not wait for it: they look at the rows that it does not cover.
func (l *Log) Indexed(ctx context.Context, size int64) error {
	tick := time.NewTicker(indexedTick)
	defer tick.Stop()
	for {
		var end int64
		err := l.read(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
			end, err = textEnd(ctx, tx)
			return err
		})
		if err != nil || end >= audit.RolledUp(size) {
			return err
		}
		select {
		case <-tick.C:
		case <-l.committer.Stopped():
			return backend.ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// indexedTick is between two looks at how far the text index has come.
const indexedTick = 50 * time.Millisecond

// index writes the text index of segments as they become complete, and folds their rollups, until ctx ends.
// Two processes may do it at once: whoever comes second finds the blocks there.
func (l *Log) index(ctx context.Context) {
	var c *stdlib.Conn
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-l.grew:
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		err := errors.Join(l.foldAll(ctx, &c), l.indexAll(ctx, &c))
		if err == nil || ctx.Err() != nil {
			continue
		}
		l.cfg.Log.Warn("audit store: the text index or the rollups fall behind, searches and counts look at more", "error", explain(err))
		if c != nil {
			_ = c.Close()
			c = nil
		}
		pause.Reset(indexPause)
	}
}

// connectAside connects where there is no connection. Whatever a crash loses of what is derived is
// derived anew: no commit of the log waits for its way to the disk.
func (l *Log) connectAside(ctx context.Context, c **stdlib.Conn) error {
	if *c != nil {
		return nil
	}
	conn, err := connect(ctx, l.target.forWriting())
	if err != nil {
		return err
	}
	if _, err := conn.Conn().Exec(ctx, `SET synchronous_commit = off`); err != nil {
		return errors.Join(err, conn.Close())
	}
	*c = conn
	return nil
}

// indexPause is between a failure and the next try.
const indexPause = 5 * time.Second

// indexAll writes the blocks of each complete segment that has none. Where they begin is asked on the
// connection that writes them: what another one has seen may be gone with the server that it saw it on.
func (l *Log) indexAll(ctx context.Context, c **stdlib.Conn) error {
	if err := l.connectAside(ctx, c); err != nil {
		return err
	}
	var next interval
	if err := (*c).Conn().QueryRow(ctx, sqlTextEnd).Scan(&next.from); err != nil {
		return err
	}
	h, err := backend.ScanHead((*c).Conn().QueryRow(ctx, sqlHead).Scan)
	if err != nil {
		return err
	}
	next.to = audit.RolledUp(h.Tree.N)
	for next.from *= blockEvents; err == nil && !next.empty() && ctx.Err() == nil; next.from += audit.SegmentSize {
		err = l.indexSegment(ctx, *c, next.from)
	}
	return err
}

func (l *Log) indexSegment(ctx context.Context, c *stdlib.Conn, from int64) error {
	texts := make([]blockText, segmentBlocks)
	var numbers []int64
	for i := range texts {
		texts[i] = blockText{seen: map[string]bool{}}
		numbers = append(numbers, from/blockEvents+int64(i))
	}
	if err := readTexts(ctx, c.Conn(), from, texts); err != nil {
		return err
	}
	lines := make([]*string, len(texts))
	for i := range texts {
		lines[i] = texts[i].text()
	}
	_, err := c.Conn().Exec(ctx, `INSERT INTO event_text (block, text) SELECT * FROM unnest($1::bigint[], $2::text[]) ON CONFLICT (block) DO NOTHING`, numbers, lines)
	return err
}

// readTexts reads the events of a segment; details alone where there may be content in them.
func readTexts(ctx context.Context, c *pgx.Conn, from int64, texts []blockText) error {
	rows, err := c.Query(ctx, `SELECT idx, body, CASE WHEN kind = 'session.command' OR starts_with(kind, 'sftp.') THEN details END
		FROM events WHERE idx >= $1 AND idx < $2`, from, from+audit.SegmentSize)
	if err != nil {
		return err
	}
	seen := 0
	var index int64
	var body, details pgtype.DriverBytes // of the connection's buffer: gone with the next row
	_, err = pgx.ForEachRow(rows, []any{&index, &body, &details}, func() error {
		texts[(index-from)/blockEvents].add(body, details)
		seen++
		return nil
	})
	if err == nil && seen != audit.SegmentSize {
		err = fmt.Errorf("the segment at %d has %d events, verify the log", from, seen)
	}
	return err
}

// blockText gathers the different lines of a block.
type blockText struct {
	seen   map[string]bool
	size   int
	opaque bool // an event of it cannot be read
}

// add takes the texts of an event. Most have no details here, and the rest stands in
// canonical JSON as it is: to parse it would take longer than all else.
func (t *blockText) add(body, details []byte) {
	if len(details) == 0 && t.plain(body) {
		return
	}
	var e audit.Event
	if json.Unmarshal(body, &e) != nil {
		t.opaque = true
		return
	}
	e.Details = details
	for _, s := range append([]string{e.Reason, e.Ticket, e.Source, e.Node, audit.Content(e)}, e.PolicyIDs...) {
		t.line([]byte(s))
	}
}

// plain takes the lines of a body; ok is false where one is written with an escape.
func (t *blockText) plain(body []byte) (ok bool) {
	for _, name := range plainNames {
		value, ok := plainValue(body, name)
		if !ok {
			return false
		}
		t.line(value)
	}
	_, rest, ok := bytes.Cut(body, []byte(`,"policy_ids":[`))
	end := bytes.IndexAny(rest, `]\`)
	// The bracket is that of the list and not of a string where as many quotes open as close before it.
	if !ok || end < 0 || rest[end] != ']' || bytes.Count(rest[:end], []byte(`"`))%2 != 0 {
		return false
	}
	for i, value := range bytes.Split(rest[:end], []byte(`"`)) {
		if i%2 == 1 {
			t.line(value)
		}
	}
	return true
}

var plainNames = []string{`,"reason":"`, `,"ticket":"`, `,"source":"`, `,"node":"`}

// plainValue returns the string behind a field's name in canonical JSON; ok is false where it is
// written with an escape. The name with its quotes stands nowhere else: in a string they are escaped.
func plainValue(body []byte, name string) (value []byte, ok bool) {
	_, rest, ok := bytes.Cut(body, []byte(name))
	end := bytes.IndexAny(rest, `"\`)
	if !ok || end < 0 || rest[end] != '"' {
		return nil, false
	}
	return rest[:end], true
}

func (t *blockText) line(s []byte) {
	if len(s) == 0 || t.size > maxBlockText {
		return
	}
	if t.seen[string(s)] { // most lines are in lower case as they are
		return
	}
	if line := folded(string(s)); !t.seen[line] {
		t.seen[line] = true
		if t.size += len(line); t.size > maxBlockText {
			t.seen = nil // it has no text, see text
		}
	}
}

// text returns what is stored; nil for a block that every search must look at.
func (t *blockText) text() *string {
	if t.opaque || t.size > maxBlockText {
		return nil
	}
	lines := make([]string, 0, len(t.seen))
	for line := range t.seen {
		lines = append(lines, line)
	}
	slices.Sort(lines)
	s := "\n" + strings.Join(lines, "\n") + "\n"
	return &s
}
