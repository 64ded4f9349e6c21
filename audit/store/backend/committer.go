package backend

import (
	"log/slog"
	"runtime"
)

// batchBytes bounds what the appends of a commit hold, beyond the first.
const batchBytes = 64 << 20

// Committer takes what callers append, has it committed in batches by one goroutine, and answers.
type Committer struct {
	known    *Known
	log      *slog.Logger
	maxBatch int // appends that share a commit
	commit   func(batch []*Request) error
	after    func()

	queue   chan *Request
	closing chan struct{} // closed by Stop
	stopped chan struct{} // closed at the end of run
}

// StartCommitter starts the goroutine. commit makes a batch durable as one transaction, or changes
// nothing and says why; First and Failed of every request are set when it returns nil. It is not called
// once the database was set back (see Known). after is called when the callers of a commit have their answers.
func StartCommitter(known *Known, log *slog.Logger, maxBatch int, commit func(batch []*Request) error, after func()) *Committer {
	c := &Committer{known: known, log: log, maxBatch: maxBatch, commit: commit, after: after,
		queue: make(chan *Request, maxBatch), closing: make(chan struct{}), stopped: make(chan struct{})}
	go c.run()
	return c
}

// Stop refuses new appends, and returns when those that were queued are answered. It is called once.
func (c *Committer) Stop() {
	close(c.closing)
	<-c.stopped
}

// Stopped is closed when everything has been answered after Stop.
func (c *Committer) Stopped() <-chan struct{} { return c.stopped }

// Queued is how many appends wait to be taken.
func (c *Committer) Queued() int { return len(c.queue) }

// run takes what is queued, has it committed as one, and answers. It ends when the log is closed and
// the queue is empty.
func (c *Committer) run() {
	defer close(c.stopped)
	for {
		select {
		case r := <-c.queue:
			c.batch(c.gather(r))
		case <-c.closing:
			for {
				select {
				case r := <-c.queue:
					c.batch(c.gather(r))
				default:
					return
				}
			}
		}
	}
}

// gather adds what is queued already to the first request. Callers that the last commit woke are
// about to queue their next append: as long as yielding to them brings more, they come into this commit and
// not into one after it.
func (c *Committer) gather(first *Request) []*Request {
	batch, size := []*Request{first}, first.size
	for before := 0; before < len(batch); {
		before = len(batch)
		runtime.Gosched()
		batch, size = c.queued(batch, size)
	}
	return batch
}

// queued adds what is queued to a batch of a size in bytes, up to a whole one.
func (c *Committer) queued(batch []*Request, size int) ([]*Request, int) {
	for len(batch) < c.maxBatch && size < batchBytes {
		select {
		case r := <-c.queue:
			batch, size = append(batch, r), size+r.size
		default:
			return batch, size
		}
	}
	return batch, size
}

// batch has requests committed as one transaction and answers each of them.
func (c *Committer) batch(waiting []*Request) {
	batch := waiting[:0]
	for _, r := range waiting {
		if r.state.CompareAndSwap(queued, begun) {
			batch = append(batch, r)
		}
	}
	if len(batch) == 0 {
		return
	}
	err := c.known.Err()
	if err == nil {
		err = c.commit(batch)
	}
	if err != nil {
		c.known.Lose(c.log, err)
		c.log.Error("audit store: events are not durable, nothing is released", "appends", len(batch), "error", err)
		for _, r := range batch {
			r.answer(unavailable(err))
		}
		return
	}
	for _, r := range batch {
		r.answer(r.Failed)
	}
	c.after()
}
