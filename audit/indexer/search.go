package indexer

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"sega/broker/api"
)

const (
	searchTime = 8 * time.Second // the broker waits for ten
	searching  = 4               // at once
	answerTime = 5 * time.Second
)

// answer follows the broker's searches until ctx ends.
func (x *Indexer) answer(ctx context.Context) error {
	group := &errgroup.Group{}
	group.SetLimit(searching)
	for ctx.Err() == nil {
		err := x.Broker.Searches(ctx, func(q api.IndexSearch) error {
			if q.ID == "" {
				return nil
			}
			if !group.TryGo(func() error { x.reply(ctx, q); return nil }) {
				x.send(ctx, api.IndexHits{ID: q.ID, Error: "too many searches at once"})
			}
			return nil
		})
		if ctx.Err() == nil {
			x.Log.Warn("the stream of searches ended: asking anew", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(x.Poll):
		}
	}
	return group.Wait()
}

// reply searches once the index has come as far as it is asked for, or has not in time: what it
// then covers stands in the answer.
func (x *Indexer) reply(ctx context.Context, q api.IndexSearch) {
	within, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	hits := api.IndexHits{ID: q.ID, UpTo: x.catchUp(within, q.UpTo)}
	if within.Err() == nil {
		var err error
		// In this order: a session that is indexed in between may be in both, and never in neither.
		if hits.Missing, hits.Cut, err = x.Index.Uncovered(within); err == nil {
			hits.Sessions, hits.More, err = x.Index.Search(within, q.Text, q.Limit)
		}
		if err != nil {
			// The text stays out of the log: whoever reads that need not be a reviewer.
			x.Log.Error("search failed", "search", q.ID, "error", err)
			hits.Error = "its database does not answer"
		}
	}
	x.send(ctx, hits)
}

// catchUp waits until the index covers an index of the log, as long as ctx lasts, and returns what it covers.
func (x *Indexer) catchUp(ctx context.Context, wanted int64) int64 {
	for {
		upTo, moved := x.progress()
		if upTo >= wanted {
			return upTo
		}
		select {
		case x.kick <- struct{}{}:
		default:
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return upTo
		}
	}
}

func (x *Indexer) send(ctx context.Context, hits api.IndexHits) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if hits.Sessions == nil {
		hits.Sessions = []string{}
	}
	if err := x.Broker.Hits(ctx, hits); err != nil && ctx.Err() == nil {
		x.Log.Warn("answer not delivered", "search", hits.ID, "error", err)
	}
}
