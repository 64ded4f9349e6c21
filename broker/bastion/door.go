package bastion

import (
	"container/list"
	"context"
	"io"
	"net/netip"
	"sync"
)

// door bounds the connections that are not authenticated yet: each source's, and all of them. When
// all places are taken, of the source or of all, the one that has waited longest goes: who is honest
// needs a fraction of a second, who holds a place to keep others out has held it for longer.
type door struct {
	most, perSource int

	mu      sync.Mutex
	waiting *list.List                  // of *knock, the oldest in front
	sources map[netip.Prefix]*list.List // of the elements of waiting, the oldest in front
}

// stranger is a connection that is not authenticated yet. Closing it ends what waits on its behalf, too.
type stranger struct {
	io.Closer
	gone context.CancelFunc
}

// Close implements io.Closer.
func (s stranger) Close() error {
	s.gone()
	return s.Closer.Close()
}

type knock struct {
	conn   io.Closer
	source netip.Addr
	own    *list.Element // in the list of its source; nil once it has left
}

func newDoor(most, perSource int) *door {
	return &door{most: most, perSource: perSource, waiting: list.New(), sources: map[netip.Prefix]*list.List{}}
}

// enter takes a place. dropped is the source of the connection that it was taken from, which enter has
// closed, or not valid. leave gives the place back, once.
func (d *door) enter(conn io.Closer, source netip.Addr) (leave func(), dropped netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	own := d.sources[network(source)]
	switch {
	case own != nil && own.Len() >= d.perSource:
		dropped = d.drop(own.Front().Value.(*list.Element))
	case d.waiting.Len() >= d.most:
		dropped = d.drop(d.waiting.Front())
	}
	if own = d.sources[network(source)]; own == nil {
		own = list.New()
		d.sources[network(source)] = own
	}
	k := &knock{conn: conn, source: source}
	place := d.waiting.PushBack(k)
	k.own = own.PushBack(place)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.remove(place)
	}, dropped
}

// drop closes the connection of a place and frees it; the caller holds mu. Its handshake fails.
func (d *door) drop(place *list.Element) netip.Addr {
	k := place.Value.(*knock)
	d.remove(place)
	_ = k.conn.Close()
	return k.source
}

// remove frees a place, unless that was done; the caller holds mu.
func (d *door) remove(place *list.Element) {
	k := place.Value.(*knock)
	if k.own == nil {
		return
	}
	d.waiting.Remove(place)
	of := d.sources[network(k.source)]
	of.Remove(k.own)
	k.own = nil
	if of.Len() == 0 {
		delete(d.sources, network(k.source))
	}
}
