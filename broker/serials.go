package broker

import (
	"context"
	"sync"

	"sega/audit/store"
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
}

type block struct {
	era, next, end uint32
}

// next returns a fresh serial of a CA.
func (s *serials) next(ctx context.Context, ca string) (sshca.Serial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// forget drops the blocks, after the eras have moved on.
func (s *serials) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.blocks)
}

func (s *Server) openIntents(ctx context.Context) (open []state.Intent, err error) {
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		open, err = state.OpenIntents(ctx, tx, s.Node)
		return err
	})
	return open, err
}
