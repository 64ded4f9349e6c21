package bastion

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sega/audit"
	"sega/broker/api"
)

const (
	kindDrain = "bastion.drain"
	// drainSlack is for who was on the way in when the bastion began to drain: the address is no longer
	// answered, and who has connected by then need not come again.
	drainSlack = 5 * time.Second
)

var errDraining = errors.New("the bastion is about to restart")

type drainDetail struct {
	Sessions int       `json:"sessions"`
	Until    time.Time `json:"until"`
}

// drain lets what lives go on for as long as the configuration gives it, and returns when nothing does
// any more. People are told; the feed goes on, so revocations and the lease hold as ever.
func (b *Bastion) drain(ctx context.Context) {
	if b.cfg.Drain <= 0 || b.sessions() == 0 {
		return
	}
	until := b.cfg.Now().Add(b.cfg.Drain).UTC()
	b.drains.Store(time.Now().UnixNano())
	b.cfg.Log.Info("draining: nobody new, and what lives may end by itself", "sessions", b.sessions(), "until", until)
	b.reports.put(api.Report{ID: newEventID(), Time: b.cfg.Now().UTC(), Kind: kindDrain, Outcome: string(audit.Success),
		Details: details(drainDetail{Sessions: b.sessions(), Until: until})})
	for _, l := range b.reg.matching(everybody) {
		if l.told != nil {
			l.told(fmt.Sprintf("the bastion restarts and ends this session at %s UTC; connect again for a new one", until.Format(time.TimeOnly)))
		}
	}
	end := time.NewTimer(b.cfg.Drain)
	defer end.Stop()
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for b.sessions() > 0 {
		select {
		case <-end.C:
			return
		case <-b.cfg.Hurry:
			return
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

const drainLook = 100 * time.Millisecond

// sessions counts what lives.
func (b *Bastion) sessions() int { return b.reg.count() }

func (r *registry) count() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.live {
		if l.session {
			n++
		}
	}
	return n
}

// draining returns errDraining where nobody gets in any more.
func (b *Bastion) draining() error {
	if began := b.drains.Load(); began != 0 && time.Since(time.Unix(0, began)) > drainSlack {
		return hint(errDraining, "connect again: another bastion answers, or this one in a while")
	}
	return nil
}
