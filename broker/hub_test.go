package broker

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sega/broker/api"
)

var start = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func after(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// TestHubPoints: where a revocation of index 10, committed at start, stands for everybody.
func TestHubPoints(t *testing.T) {
	lease := start.Add(30 * time.Second)
	for name, c := range map[string]struct {
		expected []string
		do       func(*hub)
		now      time.Time
		want     []api.Point
		waiting  bool
	}{
		"nobody": {do: func(*hub) {}, now: start},
		"connected, not yet": {do: func(h *hub) { h.join("mch_1", "b1", 9); h.sent("mch_1", lease) }, now: start,
			want: []api.Point{{Kind: "bastion", Name: "b1", Deadline: lease}}, waiting: true},
		"acknowledged": {do: func(h *hub) {
			h.join("mch_1", "b1", 9)
			h.sent("mch_1", lease)
			h.ack("mch_1", api.Ack{Index: 10, Closed: 3}, after(40))
		}, now: after(50), want: []api.Point{{Kind: "bastion", Name: "b1", Acknowledged: true, Millis: 40, Closed: 3}}},
		"acknowledged again": {do: func(h *hub) {
			h.join("mch_1", "b1", 9)
			h.ack("mch_1", api.Ack{Index: 10, Closed: 3}, after(40))
			h.ack("mch_1", api.Ack{Index: 10}, after(90))
		}, now: after(100), want: []api.Point{{Kind: "bastion", Name: "b1", Acknowledged: true, Millis: 40, Closed: 3}}},
		"acknowledged a later one": {do: func(h *hub) { h.join("mch_1", "b1", 9); h.ack("mch_1", api.Ack{Index: 11}, after(40)) }, now: after(50),
			want: []api.Point{{Kind: "bastion", Name: "b1", Acknowledged: true}}},
		"came with it": {do: func(h *hub) { h.join("mch_1", "b1", 10) }, now: start, want: []api.Point{{Kind: "bastion", Name: "b1", Acknowledged: true}}},
		"an old ack does not count": {do: func(h *hub) {
			h.join("mch_1", "b1", -1)
			h.sent("mch_1", lease)
			h.ack("mch_1", api.Ack{Index: 9}, start)
		}, now: start, want: []api.Point{{Kind: "bastion", Name: "b1", Deadline: lease}}, waiting: true},
		"acks never go back": {do: func(h *hub) {
			h.join("mch_1", "b1", 10)
			h.ack("mch_1", api.Ack{Index: 4}, start)
			h.join("mch_1", "b1", 2)
		}, now: start, want: []api.Point{{Kind: "bastion", Name: "b1", Acknowledged: true}}},
		"lost, its lease runs": {do: func(h *hub) { c := h.join("mch_1", "b1", 9); h.sent("mch_1", lease); h.leave("mch_1", c) }, now: lease,
			want: []api.Point{{Kind: "bastion", Name: "b1", Deadline: lease}}, waiting: true},
		"lost, its lease is over": {do: func(h *hub) { c := h.join("mch_1", "b1", 9); h.sent("mch_1", lease); h.leave("mch_1", c) }, now: lease.Add(1)},
		"an ack of nobody":        {do: func(h *hub) { h.ack("mch_1", api.Ack{Index: 10}, start) }, now: start},
		"not back since the start": {expected: []string{"b1", "b2"}, do: func(h *hub) { h.join("mch_1", "b1", 10) }, now: after(999),
			want: []api.Point{{Kind: "bastion", Name: "b1", Acknowledged: true}, {Kind: "bastion", Name: "b2", Deadline: after(1000)}}, waiting: true},
		"its lease of before is over": {expected: []string{"b1"}, do: func(*hub) {}, now: after(1000)},
		"two of which one is slow": {do: func(h *hub) {
			h.join("mch_1", "b1", 9)
			h.join("mch_2", "b2", 9)
			h.sent("mch_2", lease)
			h.ack("mch_1", api.Ack{Index: 10}, after(7))
		}, now: after(8), want: []api.Point{{Kind: "bastion", Name: "b1", Acknowledged: true, Millis: 7}, {Kind: "bastion", Name: "b2", Deadline: lease}}, waiting: true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(c.expected, after(1000))
			c.do(h)
			got, waiting, _ := h.points(10, start, c.now)
			byName := cmpopts.SortSlices(func(a, b api.Point) bool { return a.Name < b.Name })
			if diff := cmp.Diff(c.want, got, byName); diff != "" || waiting != c.waiting {
				t.Errorf("waiting %v, want %v; -want +got\n%s", waiting, c.waiting, diff)
			}
		})
	}
}

// TestHubConnections: an older connection that ends late does not make the newer one lost.
func TestHubConnections(t *testing.T) {
	h := newHub(nil, start)
	check := func(what string, want int) {
		t.Helper()
		if got := h.connected(); got != want {
			t.Errorf("%s: %d connected, want %d", what, got, want)
		}
	}
	first := h.join("mch_1", "b1", -1)
	second := h.join("mch_1", "b1", -1)
	check("replaced", 1)
	h.leave("mch_1", first)
	check("the old one ends", 1)
	h.leave("mch_1", second)
	check("the new one ends", 0)
	third := h.join("mch_1", "b1", -1)
	h.leave("mch_1", first)
	h.leave("mch_1", second)
	check("both end once more", 1)
	h.leave("mch_1", third)
	check("all are gone", 0)
	h.leave("mch_unknown", 0)
	check("a stranger ends", 0)
}

// TestHubWakes: whoever looked before a change is woken by it, and by nothing else.
func TestHubWakes(t *testing.T) {
	woken := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	for name, c := range map[string]struct {
		do         func(*hub, int64)
		wake, acks bool
	}{
		"a revocation": {do: func(h *hub, _ int64) { h.notify() }, wake: true},
		"an ack":       {do: func(h *hub, _ int64) { h.ack("mch_1", api.Ack{Index: 1}, start) }, acks: true},
		"a loss":       {do: func(h *hub, conn int64) { h.leave("mch_1", conn) }, acks: true},
		"a late loss":  {do: func(h *hub, conn int64) { h.leave("mch_1", conn-1) }},
		"a newcomer":   {do: func(h *hub, _ int64) { h.join("mch_2", "b2", -1) }, acks: true},
		"an item":      {do: func(h *hub, _ int64) { h.sent("mch_1", start) }},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(nil, start)
			h.join("mch_1", "b1", -1)
			conn := h.join("mch_1", "b1", -1)
			wake := h.waker()
			_, _, acks := h.points(0, start, start)
			c.do(h, conn)
			if woken(wake) != c.wake || woken(acks) != c.acks {
				t.Errorf("feeds woken: %v, who waits: %v", woken(wake), woken(acks))
			}
			if woken(h.waker()) {
				t.Error("the next waker is woken already")
			}
		})
	}
}

// TestHubForgets: what is kept of acknowledgements is bounded.
func TestHubForgets(t *testing.T) {
	h := newHub(nil, start)
	h.join("mch_1", "b1", -1)
	for i := range int64(5000) {
		h.ack("mch_1", api.Ack{Index: i}, start)
	}
	if n := len(h.feeds["mch_1"].cut); n > 1001 {
		t.Errorf("%d acknowledgements are kept", n)
	}
	if points, waiting, _ := h.points(4500, start, start); waiting || !points[0].Acknowledged {
		t.Errorf("points %+v", points)
	}
}
