package bastion

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
)

var errBusy = errors.New("too many connections of this source are not authenticated")

// door bounds the connections that are not authenticated yet: each source's, and all of them. When
// all places are taken, the one that has waited longest goes: who is honest needs a fraction of a
// second, who holds a place to keep others out has held it for longer.
type door struct {
	most, perSource int

	mu      sync.Mutex
	waiting *list.List // of *knock, the oldest in front
	sources map[netip.Prefix]int
}

type knock struct {
	conn   net.Conn
	source netip.Prefix
}

func newDoor(most, perSource int) *door {
	return &door{most: most, perSource: perSource, waiting: list.New(), sources: map[netip.Prefix]int{}}
}

// enter takes a place, or returns errBusy where the source has too many. dropped is the connection
// that it was taken from, which enter has closed, or nil. leave gives the place back, once.
func (d *door) enter(nc net.Conn) (leave func(), dropped net.Conn, err error) {
	source := network(sourceOf(nc.RemoteAddr()))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sources[source] >= d.perSource {
		return nil, nil, errBusy
	}
	if d.waiting.Len() >= d.most {
		oldest := d.waiting.Front()
		dropped = oldest.Value.(*knock).conn
		d.remove(oldest)
		_ = dropped.Close() // its handshake fails
	}
	d.sources[source]++
	place := d.waiting.PushBack(&knock{nc, source})
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.remove(place)
	}, dropped, nil
}

// remove frees a place, unless that was done; the caller holds mu.
func (d *door) remove(place *list.Element) {
	k := place.Value.(*knock)
	if k.conn == nil {
		return
	}
	d.waiting.Remove(place)
	k.conn = nil
	if d.sources[k.source]--; d.sources[k.source] == 0 {
		delete(d.sources, k.source)
	}
}
