package bastion

import (
	"context"
	"errors"
	"sync"
	"time"

	"sega/audit"
	"sega/broker/api"
)

const (
	kindSpoolLow  = "spool.low"
	kindSpoolFree = "spool.free"

	diskCheck      = time.Second
	defaultReserve = 1 << 30 // bytes, and at most a twentieth of the disk
	reserveShare   = 20
)

var errReserve = errors.New("the bastion's disk has too little room left for recordings")

// room is what a disk has left, of how much.
type room struct{ free, total uint64 }

// disk watches the disk of the spool. Below the reserve nothing new opens; below half of it the
// ladders act on what lives.
type disk struct {
	measure func() (room, error)
	reserve uint64 // 0: the default

	mu    sync.Mutex
	level level
}

type level int

const (
	levelEnough level = iota
	levelLow          // less than the reserve
	levelHalf         // less than half of it
)

// levelOf judges what is left. What is back above a mark has to be a quarter above it, so that a disk
// at the mark does not make an event a second.
func levelOf(free, reserve uint64, was level) level {
	mark := func(at uint64, below bool) bool {
		if below {
			at += at / 4
		}
		return free < at
	}
	switch {
	case mark(reserve/2, was == levelHalf):
		return levelHalf
	case mark(reserve, was != levelEnough):
		return levelLow
	}
	return levelEnough
}

// look measures, and returns the level before and after. A disk that cannot be measured counts as one
// without room: nothing new opens, and no session is ended for it.
func (d *disk) look() (was, now level, r room, reserve uint64) {
	r, err := d.measure()
	d.mu.Lock()
	defer d.mu.Unlock()
	was = d.level
	reserve = d.reserve
	if reserve == 0 {
		reserve = min(defaultReserve, r.total/reserveShare)
	}
	if err != nil {
		d.level = max(d.level, levelLow)
	} else {
		d.level = levelOf(r.free, reserve, was)
	}
	return was, d.level, r, reserve
}

// open returns nil where something new may be opened.
func (d *disk) open() error {
	if _, now, _, _ := d.look(); now != levelEnough {
		return hint(errReserve, "tell whoever runs the bastion, or use another one")
	}
	return nil
}

type roomDetail struct {
	Free    uint64 `json:"free"`
	Reserve uint64 `json:"reserve"`
	Half    bool   `json:"half,omitempty"`
}

// watchDisk says when the level changes, in the log and to the sessions.
func (b *Bastion) watchDisk(ctx context.Context) error {
	tick := time.NewTicker(diskCheck)
	defer tick.Stop()
	said := levelEnough
	for {
		_, now, r, reserve := b.disk.look()
		if now != said {
			b.sayRoom(said, now, roomDetail{Free: r.free, Reserve: reserve, Half: now == levelHalf})
			said = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (b *Bastion) sayRoom(was, now level, d roomDetail) {
	b.cfg.Log.Warn("room for recordings", "free", d.Free, "reserve", d.Reserve, "half", d.Half)
	kind, outcome := kindSpoolFree, audit.Success
	if now != levelEnough {
		kind, outcome = kindSpoolLow, audit.Failure
	}
	b.reports.post([]api.Report{{ID: newEventID(), Time: b.cfg.Now().UTC(), Kind: kind, Outcome: string(outcome), Details: details(d)}})
	switch {
	case now == levelHalf:
		b.reg.step(api.OnDisk, true, b.reports.post)
	case was == levelHalf:
		b.reg.step(api.OnDisk, false, b.reports.post)
	}
}
