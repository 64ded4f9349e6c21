package bastion

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/recording"
	"sega/broker/api"
)

const kindHeads = "recording.heads"

// headsBatch is how many recordings one report names: some 150 KiB, while the broker takes 1 MiB a request.
const headsBatch = 1000

// openHead is the state of a recording that still grows.
type openHead struct {
	ID       string `json:"id"`
	Segments int64  `json:"segments"`
	Bytes    int64  `json:"bytes"`
	Hash     string `json:"hash"`
}

type headsDetail struct {
	Sessions []openHead `json:"sessions"`
}

// witnessHeads puts the heads of all open recordings into the log while they change, so that
// whoever seizes the bastion cannot rewrite what came before. A report that fails is followed by
// the next one.
func (b *Bastion) witnessHeads(ctx context.Context) error {
	tick := time.NewTicker(b.cfg.HeadsEvery)
	defer tick.Stop()
	var last []openHead
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		heads := b.reg.heads()
		if len(heads) == 0 || slices.Equal(heads, last) {
			continue
		}
		if err := b.reportHeads(ctx, heads); err != nil {
			b.cfg.Log.Warn("heads of recordings not reported", "error", err)
			continue
		}
		last = heads
	}
}

// reportHeads tells of all recordings, up to its first failure.
func (b *Bastion) reportHeads(ctx context.Context, heads []openHead) error {
	for part := range slices.Chunk(heads, headsBatch) {
		if err := b.reportSome(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bastion) reportSome(ctx context.Context, heads []openHead) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.CallTimeout)
	defer cancel()
	return b.cfg.Control.Report(ctx, []api.Report{{ID: newEventID(), Time: b.cfg.Now().UTC(), Kind: kindHeads,
		Outcome: string(audit.Success), Details: details(headsDetail{Sessions: heads})}})
}

// heads lists open recordings by session ID.
func (r *registry) heads() []openHead {
	r.mu.Lock()
	entries := slices.Collect(maps.Keys(r.live))
	r.mu.Unlock()
	var out []openHead
	for _, l := range entries {
		if l.head == nil {
			continue
		}
		if h, ok := l.head(); ok {
			out = append(out, openHead{ID: l.subject.session, Segments: h.Segments, Bytes: h.Bytes, Hash: h.Hash})
		}
	}
	slices.SortFunc(out, func(a, b openHead) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func (s *session) head() (recording.Head, bool) {
	s.mu.Lock()
	rec := s.rec
	s.mu.Unlock()
	if rec == nil {
		return recording.Head{}, false
	}
	return rec.Head(), true
}
