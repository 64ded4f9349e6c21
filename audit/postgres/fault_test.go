package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"sega/audit"
	"sega/audit/store"
	"sega/audit/store/storetest"
)

var errInjected = errors.New("injected network error")

// How an operation on the network fails. After any failure its connection is dead.
const (
	lost  = "lost"  // nothing was sent or read
	late  = "late"  // it was sent, or read, and nothing after it
	split = "split" // half of it was sent or read
)

// faults fails operations first..first+count-1, counted over all connections.
type faults struct {
	mode         string
	first, count int64
	n            atomic.Int64
	hits         atomic.Int64
}

// dial is a dialFunc.
func (f *faults) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := dialer(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &faultConn{Conn: c, f: f}, nil
}

type faultConn struct {
	net.Conn
	f    *faults
	dead atomic.Bool
}

// run carries out one operation on b, or not.
func (c *faultConn) run(b []byte, op func([]byte) (int, error)) (int, error) {
	if c.dead.Load() {
		return 0, errInjected
	}
	n := c.f.n.Add(1) - 1
	if n < c.f.first || n >= c.f.first+c.f.count {
		return op(b)
	}
	c.f.hits.Add(1)
	c.dead.Store(true)
	var done int
	var err error
	switch c.f.mode {
	case late:
		done, err = op(b)
	case split:
		done, err = op(b[:max(1, len(b)/2)])
	}
	// Half a message is told as half by a write, and as all that there is by a read.
	return done, errors.Join(err, errInjected, c.Conn.Close())
}

func (c *faultConn) Read(b []byte) (int, error)  { return c.run(b, c.Conn.Read) }
func (c *faultConn) Write(b []byte) (int, error) { return c.run(b, c.Conn.Write) }

// TestFaults fails messages to and from the server in turn (every one where SEGA_SOAK is 1, else one
// in five), in several ways, alone and with those that follow, and judges the log each time: what was acknowledged is there once, what was refused is
// wholly absent, the tree verifies, and the log goes on by itself. Where the connections after the
// first failed too, what was refused may be there, but whole.
func TestFaults(t *testing.T) {
	s := server(t)
	step := every(5)
	for _, count := range []int64{1, 3} {
		for _, mode := range []string{lost, late, split} {
			t.Run(fmt.Sprintf("%s, %d operations", mode, count), func(t *testing.T) {
				url, failed, hit := s.URL(s.NewDatabase(t)), 0, int64(1)
				first := rand.Int64N(step)             // every one in some run
				for ; hit > 0; first += step * count { // until no operation of the workload is left
					f := &faults{mode: mode, first: first, count: count}
					if faultRound(t, url, f) {
						failed++
					}
					hit = f.hits.Load()
				}
				if first < 15 || failed == 0 {
					t.Errorf("the workload has %d operations, %d rounds refused an append", first, failed)
				}
			})
		}
	}
}

// told is what callers were told of their events.
type told struct {
	mu      sync.Mutex
	acked   map[string]int64
	refused map[string]bool
}

func newTold() *told { return &told{acked: map[string]int64{}, refused: map[string]bool{}} }

// append appends one event, with a change of state where state is set, and notes the answer.
func (o *told) append(l *Log, e audit.Event, state bool) error {
	var apply func(context.Context, store.Tx) error
	if state {
		apply = func(ctx context.Context, tx store.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO storetest_state (name, n) VALUES (?, 1)`, e.ID)
			return err
		}
	}
	first, err := l.Append(context.Background(), []audit.Event{e}, apply)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.refused[e.ID] = state
	} else {
		o.acked[e.ID] = first
	}
	return err
}

// faultRound appends under faults to the database of the rounds before, and reports whether any
// append failed.
func faultRound(t *testing.T, url string, f *faults) (failed bool) {
	t.Helper()
	f.n.Store(-1 << 40) // opening is not what is tested here
	l, err := open(t.Context(), config(t, url), f.dial)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f.n.Store(0)
	o := newTold()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 3 {
				if err := o.append(l, testEvent(i), w%2 == 0); err != nil && !errors.Is(err, store.ErrUnavailable) && f.count == 0 {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	failed = len(o.refused) > 0
	f.n.Store(1 << 40) // healed
	if err := o.append(l, testEvent(9), true); err != nil {
		t.Fatalf("%s %d: the log does not go on: %v", f.mode, f.first, err)
	}
	o.judge(t, l, f.count == 1)
	return failed
}

// judge compares what callers were told with what is stored, state included.
func (o *told) judge(t *testing.T, l *Log, strict bool) {
	t.Helper()
	storetest.Verify(t, l, testKey(t).Verifier())
	_, tree := l.Head()
	stored := map[string]int64{}
	for row, err := range l.Rows(t.Context(), 0, 1<<40) {
		if err != nil {
			t.Fatal(err)
		}
		id := row.Columns["id"]
		if at, twice := stored[id]; twice {
			t.Errorf("event %s is stored at %d and %d", id, at, row.Index)
		}
		stored[id] = row.Index
	}
	if int64(len(stored)) < tree.N {
		t.Errorf("%d events, the head says %d", len(stored), tree.N)
	}
	for id, index := range o.acked {
		if got, ok := stored[id]; !ok || got != index {
			t.Errorf("event %s was acknowledged at %d, found %v at %d", id, index, ok, got)
		}
	}
	state := stateNames(t, l)
	for id, withState := range o.refused {
		index, there := stored[id]
		if there && strict {
			t.Errorf("event %s was refused, but is stored at %d", id, index)
		}
		if withState && there != state[id] {
			t.Errorf("event %s was refused and is half there: event %v, state %v", id, there, state[id])
		}
	}
	for id := range state {
		if _, ok := stored[id]; !ok {
			t.Errorf("the state of event %s is there without it", id)
		}
	}
}

// stateNames reads what told.append has written beside the events.
func stateNames(t *testing.T, l *Log) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := l.Read(t.Context(), func(ctx context.Context, q store.Querier) error {
		rows, err := q.QueryContext(ctx, `SELECT name FROM storetest_state`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			names[name] = true
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// cutter loses the first answer of the server that comes when the log has grown: that of a COMMIT.
type cutter struct {
	url   string
	from  atomic.Int64 // the log's size when it was armed; negative: not armed
	cut   func()       // called before the connection fails
	fired atomic.Int64
}

func (c *cutter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := dialer(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: conn, c: c}, nil
}

// appendsParam stands in the startup message of the connection that appends, and in no other's.
const appendsParam = "enable_seqscan"

// size asks the server on another connection.
func (c *cutter) size() (n int64, err error) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, `SELECT size FROM sega.head`).Scan(&n)
	return n, err
}

type cutConn struct {
	net.Conn
	c       *cutter
	appends atomic.Bool // others look at the head now and then
}

func (c *cutConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(appendsParam)) {
		c.appends.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	from := c.c.from.Load()
	if err != nil || from < 0 || !c.appends.Load() {
		return n, err
	}
	size, err := c.c.size()
	if err != nil {
		return 0, err
	}
	if size == from || !c.c.from.CompareAndSwap(from, -1) {
		return n, nil
	}
	c.c.fired.Add(1)
	c.c.cut()
	return 0, errors.Join(errInjected, c.Conn.Close())
}

// TestCommitAnswerLost cuts the connection exactly between a COMMIT and its answer. The append is
// told of its success nevertheless, once, and also where another broker has appended since.
func TestCommitAnswerLost(t *testing.T) {
	s := server(t)
	for name, others := range map[string]int{"alone": 0, "another broker goes on": 3} {
		t.Run(name, func(t *testing.T) {
			url := s.URL(s.NewDatabase(t))
			o, other := newTold(), openTest(t, config(t, url))
			c := &cutter{url: url, cut: func() {
				for i := range others {
					if err := o.append(other, testEvent(i), false); err != nil {
						t.Error(err)
					}
				}
			}}
			c.from.Store(-1)
			l, err := open(t.Context(), config(t, url), c.dial)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			for i := range 5 {
				_, tree := other.Head()
				if size, err := c.size(); err != nil {
					t.Fatal(err, tree)
				} else {
					c.from.Store(size)
				}
				if err := o.append(l, testEvent(i), i%2 == 0); err != nil {
					t.Errorf("append %d: %v", i, err)
				}
			}
			if c.fired.Load() != 5 {
				t.Errorf("%d answers were lost, want 5", c.fired.Load())
			}
			if err := o.append(l, testEvent(9), true); err != nil {
				t.Error(err)
			}
			o.judge(t, l, true)
			if _, tree := l.Head(); tree.N != int64(len(o.acked)) {
				t.Errorf("the log has %d events, %d were acknowledged", tree.N, len(o.acked))
			}
		})
	}
}

func TestSignerFails(t *testing.T) {
	s := server(t)
	key := &storetest.FailingKey{LogKey: testKey(t)}
	cfg := config(t, s.URL(s.NewDatabase(t)))
	cfg.Signer = key
	l := openTest(t, cfg)
	key.Fail.Store(true)
	o := newTold()
	if err := o.append(l, testEvent(1), true); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, storetest.ErrSigner) {
		t.Errorf("got %v", err)
	}
	key.Fail.Store(false)
	if err := o.append(l, testEvent(1), true); err != nil {
		t.Error(err)
	}
	o.judge(t, l, true)
}
