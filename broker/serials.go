package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// blockSize is how many serials are taken from the database at once. What a crash leaves of a
// block is skipped: serials are unique and rise, they are not dense.
const blockSize = 1000

// serials numbers certificates by era and counter, each CA for itself.
type serials struct {
	log store.Log

	mu     sync.Mutex
	blocks map[string]*block

	ended atomic.Bool // the eras have moved on: the blocks are void
}

type block struct {
	era, next, end uint32
}

// next returns a fresh serial of a CA.
func (s *serials) next(ctx context.Context, ca string) (sshca.Serial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Swap(false) {
		clear(s.blocks)
	}
	b := s.blocks[ca]
	if b == nil || b.next >= b.end {
		b = &block{}
		_, err := s.log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error {
			era, first, err := state.ReserveSerials(ctx, tx, ca, blockSize)
			b.era, b.next, b.end = era, first, first+blockSize
			return err
		})
		if err != nil {
			return 0, unavailable(err)
		}
		s.blocks[ca] = b
	}
	serial, err := sshca.NewSerial(b.era, b.next)
	b.next++
	return serial, err
}

// forget drops the blocks, after the eras have moved on. It waits for nobody, so that the committer
// may call it, for which next waits.
func (s *serials) forget() { s.ended.Store(true) }

// recordCert stores a certificate in the transaction of its event. Its serial is refused where another broker
// on this database has begun a new era since we took our block: the next certificate has a good one.
func (s *Server) recordCert(ctx context.Context, tx store.Tx, c state.Cert) error {
	err := state.AddCert(ctx, tx, c)
	if errors.Is(err, state.ErrExists) {
		s.serials.forget()
		return api.Errorf(api.KindUnavailable, "the %s CA has begun a new era of serials after a recovery", c.Profile).WithHint("repeat the command")
	}
	return err
}

func (s *Server) openIntents(ctx context.Context) (open []state.Intent, err error) {
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		open, err = state.OpenIntents(ctx, tx, s.Node)
		return err
	})
	return open, err
}
