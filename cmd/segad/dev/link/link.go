//go:build linux

package link

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	mtu   = 1500
	queue = 512 // packets on their way in one direction; more are dropped, as by a router
)

// Conditions of a link, the same in both directions.
type Conditions struct {
	Delay time.Duration // of each direction
	Loss  float64       // share of packets that are dropped; 1: the link is cut
	Rate  int           // bytes a second; 0: no limit
}

// Link joins two network namespaces. The laptop's has the address Laptop and nothing else, not even a loopback:
// what it sends, to 127.0.0.1 too, goes over the link to the other one, whose address is Servers.
type Link struct {
	conditions atomic.Pointer[Conditions]
	dropped    atomic.Int64
	devices    [2]*os.File
	laptop     int // descriptor of the namespace
	wg         sync.WaitGroup
}

// Addresses of both ends.
const (
	Laptop  = "100.64.0.1"
	Servers = "100.64.0.2"
)

// New makes the laptop's namespace and joins it to the caller's. seed decides which packets are lost.
func New(seed uint64) (*Link, error) {
	l := &Link{}
	l.Set(Conditions{})
	servers, err := device("sega-servers", Servers, "255.255.255.0")
	if err != nil {
		return nil, err
	}
	laptop, namespace, err := otherSide()
	if err != nil {
		return nil, errors.Join(err, servers.Close())
	}
	l.devices, l.laptop = [2]*os.File{laptop, servers}, namespace
	l.carry(laptop, servers, rand.New(rand.NewPCG(seed, 1)))
	l.carry(servers, laptop, rand.New(rand.NewPCG(seed, 2)))
	return l, nil
}

// Set changes the conditions for packets from now on.
func (l *Link) Set(c Conditions) { l.conditions.Store(&c) }

// Dropped is how many packets were lost.
func (l *Link) Dropped() int64 { return l.dropped.Load() }

// Close ends the link, and waits until nothing of it runs.
func (l *Link) Close() error {
	err := errors.Join(l.devices[0].Close(), l.devices[1].Close(), closeNamespace(l.laptop))
	l.wg.Wait()
	return err
}

// packet is due at its time.
type packet struct {
	bytes []byte
	due   time.Time
}

// carry starts one direction.
func (l *Link) carry(from, to *os.File, lots *rand.Rand) {
	waiting := make(chan packet, queue)
	l.wg.Go(func() {
		defer close(waiting)
		l.take(from, waiting, lots)
	})
	l.wg.Go(func() {
		for p := range waiting {
			time.Sleep(time.Until(p.due)) // what the link is for
			_, _ = to.Write(p.bytes)      // a device that is down loses packets
		}
	})
}

// take reads packets until the device is closed, and decides what becomes of each.
func (l *Link) take(from *os.File, waiting chan<- packet, lots *rand.Rand) {
	var free time.Time // when the wire has sent what came before
	buf := make([]byte, mtu+64)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		c := *l.conditions.Load()
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if c.Rate > 0 {
			free = free.Add(time.Duration(n) * time.Second / time.Duration(c.Rate))
		}
		if lots.Float64() < c.Loss {
			l.dropped.Add(1)
			continue
		}
		select {
		case waiting <- packet{append([]byte(nil), buf[:n]...), free.Add(c.Delay)}:
		default:
			l.dropped.Add(1)
		}
	}
}

func (c Conditions) String() string {
	return fmt.Sprintf("%v each way, %.0f %% lost, %d bytes a second", c.Delay, 100*c.Loss, c.Rate)
}
