package sftp

import (
	"slices"
	"sync"
)

const (
	maxRequests = 1024    // that the host has not answered
	maxFiles    = 1024    // open, or about to be
	inlineHash  = 8 << 10 // fewer bytes are not worth a goroutine
	brokenText  = "the channel ended first"
	readOnly    = "policy lets files only be read here"
	noHandle    = "the handle is not open"
	tooMany     = "too many open files"
	unknownName = "the bastion does not know this extension"
)

// Config says what an Observer lets through.
type Config struct {
	ReadOnly bool // requests that change something are answered with "permission denied"
	Content  bool // bytes of files go into the recording; else Step.Record tells them apart
}

// Step is what a chunk of one direction leads to, to be carried out in the order of the fields. What
// it holds is good until the chunk is used for something else, and Wait must have returned by then.
type Step struct {
	Record     []Piece     // into the recording: all of the chunk, sooner or later
	Operations []Operation // to be reported
	Forward    [][]byte    // to the other end
	Reply      []byte      // to the person, between two packets of the host
	Err        error       // an *Error: the channel ends once the rest is done

	hashing *sync.Mutex
}

// Wait returns when nothing reads the chunk any more.
func (s *Step) Wait() {
	if s.hashing != nil {
		s.hashing.Lock()
		//lint:ignore SA2001 whoever hashes holds it until it is done
		s.hashing.Unlock()
	}
}

// side is one direction of a channel.
type side struct {
	framer  framer
	jobs    []job
	hashing sync.Mutex // held while bytes of the chunk are hashed
}

// start hashes what has come: while the chunk is recorded and forwarded where that is worth it.
func (s *side) start() *sync.Mutex {
	bytes := 0
	for _, j := range s.jobs {
		bytes += len(j.b)
	}
	if bytes < inlineHash {
		s.finish()
		return nil
	}
	jobs := s.jobs
	s.jobs = nil
	s.hashing.Lock()
	go func() {
		defer s.hashing.Unlock()
		hashAll(jobs)
	}()
	return &s.hashing
}

// finish returns when everything so far is hashed.
func (s *side) finish() {
	s.hashing.Lock()
	defer s.hashing.Unlock()
	hashAll(s.jobs)
	clear(s.jobs)
	s.jobs = s.jobs[:0]
}

func hashAll(jobs []job) {
	for _, j := range jobs {
		j.hash.Write(j.b)
	}
}

// Observer follows one channel. Client and Host may be called concurrently, each by one caller.
type Observer struct {
	config Config

	mu       sync.Mutex
	room     sync.Cond // a request was answered, or the channel is over
	over     bool
	client   side
	host     side
	asked    bool // the client has said its version
	ready    bool // the host has said its own
	requests map[uint32]*request
	handles  map[string]*file
	opening  int // requests that will give a handle
	waiting  int // bytes that came out of order
	number   uint64
	counts   map[string]Count
	step     *Step // being filled
}

// New returns an Observer of a channel whose program is about to start.
func New(c Config) *Observer {
	o := &Observer{config: c, requests: map[uint32]*request{}, handles: map[string]*file{}, counts: map[string]Count{}}
	o.room.L = &o.mu
	o.host.framer.host = true
	return o
}

// Client takes bytes of the person's, and returns how many of them it is done with. The others are
// to be shown again once the step is carried out. It waits while too many requests are under way; when
// the channel is over it is done with nothing.
func (o *Observer) Client(chunk []byte) (Step, int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		var step Step
		o.step = &step
		n, err := o.client.framer.feed(o.sink(chunk), o.request)
		step.Err, step.hashing = err, o.client.start()
		if n > 0 || o.over || len(chunk) == 0 {
			return step, n
		}
		o.room.Wait()
	}
}

// Host takes bytes of the host's.
func (o *Observer) Host(chunk []byte) Step {
	o.mu.Lock()
	defer o.mu.Unlock()
	var step Step
	o.step = &step
	_, step.Err = o.host.framer.feed(o.sink(chunk), o.reply)
	step.hashing = o.host.start()
	return step
}

// Between reports whether the host's bytes so far end with a whole packet.
func (o *Observer) Between() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.host.framer.between()
}

func (o *Observer) sink(chunk []byte) *sink {
	return &sink{step: o.step, chunk: chunk, from: -1, to: -1, whole: o.config.Content}
}

// Over says that the host will answer nothing more: Client waits no longer.
func (o *Observer) Over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	o.room.Broadcast()
}

// End returns what is to be recorded and reported when both directions have ended: heads that never
// became whole, and what was under way, whose outcome is Unknown.
func (o *Observer) End() (client, host []byte, unfinished []Operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var step Step
	o.step = &step
	open := map[*file]bool{}
	for _, f := range o.handles {
		open[f] = true
	}
	for _, r := range o.requests {
		switch {
		case r.file != nil:
			open[r.file] = true
		case r.op != nil:
			o.end(r.op, Unknown, brokenText)
		}
	}
	for f := range open {
		o.settle(f, Unknown, brokenText)
	}
	slices.SortFunc(step.Operations, func(a, b Operation) int { return int(int64(a.Number - b.Number)) })
	if len(o.counts) > 0 {
		o.end(o.newOperation(Stat), Success, "")
		step.Operations[len(step.Operations)-1].Counts = o.counts
	}
	client, host = o.client.framer.held, o.host.framer.held
	o.client.framer.held, o.host.framer.held = nil, nil
	clear(o.requests)
	clear(o.handles)
	o.counts = map[string]Count{}
	return client, host, step.Operations
}

func (o *Observer) newOperation(k Kind) *Operation {
	o.number++
	return &Operation{Number: o.number, Kind: k}
}

// begin says that the host is about to see an operation.
func (o *Observer) begin(op *Operation) {
	o.step.Operations = append(o.step.Operations, *op)
}

// end says how an operation ended.
func (o *Observer) end(op *Operation, outcome Outcome, reason string) {
	op.Outcome, op.Reason = outcome, reason
	o.step.Operations = append(o.step.Operations, *op)
}
