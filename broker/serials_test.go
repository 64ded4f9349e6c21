package broker

import (
	"context"
	"sync"
	"testing"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// TestSerialsOnce: many at once, over several blocks, and two servers on one log: no serial twice.
func TestSerialsOnce(t *testing.T) {
	w := newWorld(t)
	other := &serials{log: w.log, blocks: map[string]*block{}}
	var mu sync.Mutex
	seen := map[string]map[sshca.Serial]bool{caAccess: {}, caHop: {}}
	var wg sync.WaitGroup
	for i := range 8 {
		from := w.s.serials
		if i%2 == 1 {
			from = other
		}
		wg.Go(func() {
			for range blockSize / 2 {
				for ca := range seen {
					serial, err := from.next(t.Context(), ca)
					mu.Lock()
					if err != nil || serial == 0 || seen[ca][serial] {
						t.Errorf("%s: %v given before: %v, %v", ca, serial, seen[ca][serial], err)
					}
					seen[ca][serial] = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
}

// TestSerialsRise: within one server they rise without gaps; a restart skips the rest of a block.
func TestSerialsRise(t *testing.T) {
	w := newWorld(t)
	next := func(s *serials) sshca.Serial {
		t.Helper()
		serial, err := s.next(t.Context(), caAccess)
		if err != nil {
			t.Fatal(err)
		}
		return serial
	}
	want := func(got sshca.Serial, era, counter uint32) {
		t.Helper()
		if got.Era() != era || got.Counter() != counter {
			t.Errorf("serial is %d/%d, want %d/%d", got.Era(), got.Counter(), era, counter)
		}
	}
	for i := range uint32(blockSize + 2) {
		want(next(w.s.serials), 1, i+1)
	}
	w.restart()
	want(next(w.s.serials), 1, 2*blockSize+1)
	w.write(func(ctx context.Context, tx store.Tx) error { return state.Recover(ctx, tx, w.clock.now()) })
	w.s.serials.forget()
	if after := next(w.s.serials); after.Era() < 2 || after.Counter() != 1 {
		t.Errorf("after a recovery: %d/%d, want a new era", after.Era(), after.Counter())
	}
}

// TestSerialsFail: a log that takes no block gives no serial, and the next one is as if nothing was.
func TestSerialsFail(t *testing.T) {
	w := newWorld(t)
	w.log.on(func([]audit.Event) error { return errDisk })
	if serial, err := w.s.serials.next(t.Context(), caAccess); serial != 0 || !api.IsKind(err, api.KindUnavailable) {
		t.Errorf("got %v, %v", serial, err)
	}
	w.log.on(nil)
	if serial, err := w.s.serials.next(t.Context(), caAccess); serial.Counter() != 1 || err != nil {
		t.Errorf("got %v, %v", serial, err)
	}
}
