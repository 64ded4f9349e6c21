package broker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit/store"
	"sega/broker/api"
)

// movingHead is a log whose head others move.
type movingHead struct {
	store.Log
	n, looks atomic.Int64
}

func (l *movingHead) Head() ([]byte, tlog.Tree) {
	l.looks.Add(1)
	return nil, tlog.Tree{N: l.n.Load()}
}

// TestHeadIsAwaited: however many wait, one looks, and all of them know as soon as it does.
func TestHeadIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &movingHead{}
		log.n.Store(10)
		s := &Server{Config: Config{Log: log, Peers: true}}
		const many = 500
		start := time.Now()
		var took [many]time.Duration
		var got [many]int64
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				ctx := t.Context()
				if i < 100 { // who looks may go before the others
					short, cancel := context.WithTimeout(ctx, time.Duration(i)*time.Millisecond)
					defer cancel()
					ctx = short
				}
				got[i] = s.awaitClaimed(ctx, 11+int64(i%3)).N
				took[i] = time.Since(start)
			})
		}
		time.Sleep(500 * time.Millisecond)
		log.n.Store(11)
		time.Sleep(500 * time.Millisecond)
		log.n.Store(12)
		wg.Wait()
		for i := 100; i < many; i++ {
			wantN, wantT := int64(11), 500*time.Millisecond
			switch i % 3 {
			case 1:
				wantN, wantT = 12, time.Second
			case 2:
				wantN, wantT = 12, headLag // 13 never comes
			}
			if got[i] != wantN || took[i] < wantT || took[i] > wantT+headPoll {
				t.Fatalf("%d: size %d after %s", i, got[i], took[i])
			}
		}
		if n := log.looks.Load(); n > 15*many {
			t.Errorf("%d looks, where each of them alone had looked every %s", n, headPoll)
		}
	})
}

// TestStrangersHoldNothing: a size that cannot come is not waited for: any, where no other broker has the log,
// and one far beyond the head elsewhere.
func TestStrangersHoldNothing(t *testing.T) {
	for name, c := range map[string]struct {
		peers bool
		size  int64
		waits bool
	}{"alone": {false, 11, false}, "alone, far": {false, 1 << 40, false}, "with peers": {true, 11, true}, "with peers, far": {true, 11 + headReach, false}, "there": {true, 10, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &movingHead{}
				log.n.Store(10)
				s := &Server{Config: Config{Log: log, Peers: c.peers}}
				start := time.Now()
				_, _, err := s.sizes(t.Context(), map[string][]string{"from": {"0"}, "to": {fmt.Sprint(c.size)}})
				if took := time.Since(start); (took > 0) != c.waits {
					t.Errorf("it took %s", took)
				}
				if (err == nil) != (c.size == 10) || err != nil && !api.IsKind(err, api.KindInvalid) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}
