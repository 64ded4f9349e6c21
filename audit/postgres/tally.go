package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"sega/audit"
)

// tallyKey is what the events of a rollup of the full cube share, as stored.
type tallyKey struct {
	day                               int64
	kind, outcome, email, sub, target string
}

// tally is what is derived of a segment, as far as its events have been seen. What fails drops it
// with its writer, so that it never counts what was not committed.
type tally struct {
	upTo     int64 // it has seen the events from the segment's first to the one before
	counts   map[tallyKey]int64
	min, max int64 // of their times
}

// add takes the event at upTo.
func (t *tally) add(time int64, kind, outcome, email, sub, resource string) {
	if t.upTo%audit.SegmentSize == 0 {
		t.counts, t.min, t.max = make(map[tallyKey]int64), time, time
	}
	t.upTo++
	t.min, t.max = min(t.min, time), max(t.max, time)
	t.counts[tallyKey{time / nanosPerDay, kind, outcome, email, sub, audit.Target(resource)}]++
}

// queue adds the statements that store what is derived of the segment, which is complete.
func (t *tally) queue(b *pgx.Batch) {
	segment := t.upTo/audit.SegmentSize - 1
	b.Queue(sqlPutSegment, segment, t.min, t.max)
	n := len(t.counts)
	days, counts, texts := make([]int64, 0, n), make([]int64, 0, n), [5][]string{}
	for k, count := range t.counts {
		days, counts = append(days, k.day), append(counts, count)
		for i, s := range [...]string{k.kind, k.outcome, k.email, k.sub, k.target} {
			texts[i] = append(texts[i], s)
		}
	}
	b.Queue(sqlPutPart, segment, days, texts[0], texts[1], texts[2], texts[3], texts[4], counts)
}

// Places of what is counted among columns.
var (
	atKind, atOutcome = slices.Index(columns[:], "kind"), slices.Index(columns[:], "outcome")
	atEmail, atSub    = slices.Index(columns[:], "email"), slices.Index(columns[:], "sub")
	atTarget          = slices.Index(columns[:], "resource")
)

// queueSegments counts the rows, which begin at the edge, and adds what is derived of the segments
// that they complete. A tally that is behind, which no segment needs yet, stays so.
func (w *writer) queueSegments(b *pgx.Batch, rows *rowArrays) {
	if w.open.upTo != w.edge.Tree.N {
		return
	}
	for _, p := range rows.parts {
		for i := range p.idx {
			w.open.add(p.time[i], p.texts[atKind][i], p.texts[atOutcome][i], p.texts[atEmail][i], p.texts[atSub][i], p.texts[atTarget][i])
			if w.open.upTo%audit.SegmentSize == 0 {
				w.open.queue(b)
			}
		}
	}
}

// catchUp reads what other processes have appended to the segment that the log completes when it
// grows to a size.
func (w *writer) catchUp(ctx context.Context, to int64) error {
	at := w.edge.Tree.N
	first := audit.RolledUp(at)
	if w.open.upTo == at || audit.RolledUp(to) == first {
		return nil
	}
	if w.open.upTo < first || w.open.upTo > at {
		w.open = tally{upTo: first}
	}
	rows, err := w.c.Query(ctx, sqlCounted, w.open.upTo, at)
	if err != nil {
		return fmt.Errorf("read the open segment: %w", err)
	}
	var time int64
	var kind, outcome, email, sub, resource string
	_, err = pgx.ForEachRow(rows, []any{&time, &kind, &outcome, &email, &sub, &resource}, func() error {
		w.open.add(time, kind, outcome, email, sub, resource)
		return nil
	})
	if err == nil && w.open.upTo != at {
		err = fmt.Errorf("it has %d events too few, verify the log", at-w.open.upTo)
	}
	if err != nil {
		return fmt.Errorf("read the open segment: %w", err)
	}
	return nil
}
