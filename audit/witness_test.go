package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is a log in memory that signs and proves.
type tree struct {
	tb     testing.TB
	key    *LogKey
	stored memory
	trees  []tlog.Tree // by size
	asked  atomic.Int64
}

func newTree(tb testing.TB, key *LogKey, n int, salt string) *tree {
	l := &tree{tb: tb, key: key}
	var f Frontier
	l.trees = append(l.trees, f.Tree())
	for i := range n {
		l.stored = f.Add(tlog.RecordHash(fmt.Append(nil, salt, i)), l.stored)
		l.trees = append(l.trees, f.Tree())
	}
	return l
}

func (l *tree) checkpoint(n int) []byte { return sign(l.tb, l.key, l.trees[n]) }

func (l *tree) prove(_ context.Context, from, to int64) (tlog.TreeProof, error) {
	l.asked.Add(1)
	if to >= int64(len(l.trees)) {
		return nil, fmt.Errorf("%w: it has %d events", ErrNoSuchSize, len(l.trees)-1)
	}
	if from == 0 {
		return tlog.TreeProof{}, nil
	}
	return tlog.ProveTree(to, from, l.stored)
}

// kept is what a witness has remembered.
type kept struct {
	mu   sync.Mutex
	msgs [][]byte
}

func (k *kept) remember(msg []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.msgs = append(k.msgs, msg)
	return nil
}

func newWitness(tb testing.TB, l *tree, latest []byte, k *kept) *Witness {
	tb.Helper()
	w, err := NewWitness(WitnessConfig{Verifier: l.key.Verifier(), Latest: latest, Prove: l.prove, Remember: k.remember})
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

func TestWitnessFollows(t *testing.T) {
	l := newTree(t, newKey(t, "log.corp.example/audit"), 40, "")
	k := &kept{}
	w := newWitness(t, l, nil, k)
	for _, n := range []int{0, 3, 3, 17, 9, 0, 40, 40, 39} {
		if err := w.Observe(t.Context(), l.checkpoint(n)); err != nil {
			t.Fatalf("at size %d: %v", n, err)
		}
	}
	if msg, latest := w.Latest(); latest != l.trees[40] || !bytes.Equal(msg, l.checkpoint(40)) {
		t.Errorf("latest is %v", latest)
	}
	if len(k.msgs) != 4 {
		t.Errorf("remembered %d checkpoints, want 4", len(k.msgs))
	}
	again := newWitness(t, l, k.msgs[3], &kept{})
	if err := again.Observe(t.Context(), l.checkpoint(12)); err != nil {
		t.Error(err)
	}
}

func TestWitnessAlarms(t *testing.T) {
	key := newKey(t, "log.corp.example/audit")
	honest, fork := newTree(t, key, 40, ""), newTree(t, key, 60, "fork")
	short := newTree(t, key, 20, "")
	for name, c := range map[string]struct {
		log   *tree // that proves
		msg   []byte
		after int // what was seen before, of the honest log
		want  error
	}{
		"same size, other root":         {honest, fork.checkpoint(30), 30, ErrFork},
		"larger, of another history":    {fork, fork.checkpoint(50), 30, ErrFork},
		"larger, no proof to be had":    {short, honest.checkpoint(40), 30, ErrUnproven},
		"smaller, of another history":   {fork, fork.checkpoint(20), 30, ErrRollback},
		"smaller, a log that was reset": {short, short.checkpoint(20), 30, ErrRollback},
		"empty, a log that was reset":   {newTree(t, key, 0, ""), honest.checkpoint(0), 30, ErrRollback},
		"forged":                        {honest, newTree(t, newKey(t, key.Name()), 40, "").checkpoint(40), 30, ErrCheckpoint},
	} {
		t.Run(name, func(t *testing.T) {
			k := &kept{}
			w := newWitness(t, c.log, honest.checkpoint(c.after), k)
			if err := w.Observe(t.Context(), c.msg); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if _, latest := w.Latest(); latest != honest.trees[c.after] || len(k.msgs) != 0 {
				t.Errorf("the alarm was forgotten: latest is %v", latest)
			}
		})
	}
}

func TestWitnessCancelledIsNoAlarm(t *testing.T) {
	l := newTree(t, newKey(t, "log.corp.example/audit"), 10, "")
	w, err := NewWitness(WitnessConfig{Verifier: l.key.Verifier(), Latest: l.checkpoint(10), Remember: (&kept{}).remember,
		Prove: func(ctx context.Context, _, _ int64) (tlog.TreeProof, error) { return nil, ctx.Err() }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Observe(ctx, l.checkpoint(5)); errors.Is(err, ErrRollback) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestWitnessRemembersFirst(t *testing.T) {
	l := newTree(t, newKey(t, "log.corp.example/audit"), 10, "")
	full := errors.New("disk full")
	w, err := NewWitness(WitnessConfig{Verifier: l.key.Verifier(), Prove: l.prove, Remember: func([]byte) error { return full }})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Observe(t.Context(), l.checkpoint(5)); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if msg, _ := w.Latest(); msg != nil {
		t.Error("what could not be remembered became the latest")
	}
	if _, err := NewWitness(WitnessConfig{Verifier: l.key.Verifier(), Latest: []byte("x"), Prove: l.prove, Remember: func([]byte) error { return nil }}); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("got %v", err)
	}
}

// TestWitnessConcurrent: answers that arrive in any order never raise an alarm, and what is
// remembered only grows.
func TestWitnessConcurrent(t *testing.T) {
	l := newTree(t, newKey(t, "log.corp.example/audit"), 200, "")
	k := &kept{}
	w := newWitness(t, l, nil, k)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := i; n <= 200; n += 8 {
				if err := w.Observe(context.Background(), l.checkpoint(n)); err != nil {
					t.Errorf("at size %d: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	if _, latest := w.Latest(); latest.N != 200 {
		t.Errorf("latest is %d", latest.N)
	}
	last := int64(-1)
	for _, msg := range k.msgs {
		c, err := OpenCheckpoint(msg, l.key.Verifier())
		if err != nil || c.Tree.N <= last {
			t.Fatalf("remembered %d after %d, %v", c.Tree.N, last, err)
		}
		last = c.Tree.N
	}
}
