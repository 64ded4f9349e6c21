package broker

import (
	"maps"
	"sync"
	"time"

	"sega/broker/api"
	"sega/broker/state"
)

// hub knows the bastions that follow the feed, wakes them, and collects what they acknowledge.
type hub struct {
	mu    sync.Mutex
	feeds map[string]*follower // by machine ID
	wake  chan struct{}        // closed and replaced when there is a revocation to send
	acks  chan struct{}        // closed and replaced when an acknowledgement or a loss came
	last  int64                // number of the last connection: none is given twice

	// Until an earlier run's leases have ended, a bastion that has not come back may hold sessions.
	expected []string
	ghosts   time.Time
}

// follower is a bastion with a live or recently lost feed.
type follower struct {
	name  string
	conn  int64     // number of its connection; 0 when lost
	acked int64     // highest index it has carried out
	lease time.Time // when what lives there ends at the latest, if nothing more is sent
	cut   map[int64]cut
}

type cut struct {
	closed int
	at     time.Time
}

// newHub expects the named bastions, which may hold leases of an earlier run until ghosts.
func newHub(expected []string, ghosts time.Time) *hub {
	return &hub{feeds: map[string]*follower{}, wake: make(chan struct{}), acks: make(chan struct{}), expected: expected, ghosts: ghosts}
}

func (h *hub) connected() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, f := range h.feeds {
		if f.conn != 0 {
			n++
		}
	}
	return n
}

// join registers a connection of a bastion; a newer one takes the place of an older.
func (h *hub) join(machineID, name string, after int64) (conn int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[machineID]
	if f == nil {
		f = &follower{name: name, cut: map[int64]cut{}}
		h.feeds[machineID] = f
	}
	h.last++
	f.conn = h.last
	f.acked = max(f.acked, after)
	close(h.acks)
	h.acks = make(chan struct{})
	return f.conn
}

// leave records that a connection is lost; its lease goes on.
func (h *hub) leave(machineID string, conn int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.feeds[machineID]; f != nil && f.conn == conn {
		f.conn = 0
		close(h.acks)
		h.acks = make(chan struct{})
	}
}

// sent records that an item went out and prolonged the lease.
func (h *hub) sent(machineID string, lease time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.feeds[machineID]; f != nil {
		f.lease = lease
	}
}

// notify wakes every feed.
func (h *hub) notify() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.wake)
	h.wake = make(chan struct{})
}

func (h *hub) waker() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wake
}

// ack records that a bastion has carried out every revocation up to an index. Its first word of one counts: a bastion whose
// feed broke off meanwhile gets the revocation again, and finds nothing left to close.
func (h *hub) ack(machineID string, a api.Ack, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[machineID]
	if f == nil {
		return
	}
	f.acked = max(f.acked, a.Index)
	if _, known := f.cut[a.Index]; !known {
		f.cut[a.Index] = cut{closed: a.Closed, at: now}
	}
	for index := range f.cut {
		if index < a.Index-1000 { // only revocations that are waited for are looked up
			delete(f.cut, index)
		}
	}
	close(h.acks)
	h.acks = make(chan struct{})
}

// forget makes of every acknowledgement of an index or a higher one that of the index before.
func (h *hub) forget(index int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.feeds {
		f.acked = min(f.acked, index-1)
		maps.DeleteFunc(f.cut, func(i int64, _ cut) bool { return i >= index })
	}
}

// learn takes in what other brokers, or we ourselves, have recorded of bastions: one that follows
// another broker's feed counts here like one whose feed is lost, until it has acknowledged.
func (h *hub) learn(all []state.Follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range all {
		f := h.feeds[v.Machine]
		if f == nil {
			f = &follower{name: v.Name, acked: v.Acked, cut: map[int64]cut{}}
			h.feeds[v.Machine] = f
		}
		if f.conn == 0 && f.lease.Before(v.Lease) {
			f.lease = v.Lease
		}
		f.acked = max(f.acked, v.Acked)
		if _, known := f.cut[v.Acked]; !known && !v.AckedAt.IsZero() {
			f.cut[v.Acked] = cut{closed: int(v.Closed), at: v.AckedAt}
		}
	}
}

// points says where the revocation of an index stands, and whether there is still somebody to
// wait for. Bastions whose lease has ended hold nothing open.
func (h *hub) points(index int64, committed, now time.Time) (points []api.Point, waiting bool, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]bool{}
	for _, f := range h.feeds {
		seen[f.name] = true
		if f.conn == 0 && now.After(f.lease) {
			continue
		}
		p := api.Point{Kind: api.PointBastion, Name: f.name}
		if f.acked >= index {
			p.Acknowledged = true
			if c, ok := f.cut[index]; ok {
				p.Closed, p.Millis = c.closed, c.at.Sub(committed).Milliseconds()
			}
		} else {
			p.Deadline, waiting = f.lease.UTC(), true
		}
		points = append(points, p)
	}
	for _, name := range h.expected {
		if !seen[name] && now.Before(h.ghosts) {
			points, waiting = append(points, api.Point{Kind: api.PointBastion, Name: name, Deadline: h.ghosts.UTC()}), true
		}
	}
	return points, waiting, h.acks
}
