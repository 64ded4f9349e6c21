package bastion

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sega/broker/api"
	"sega/sshca"
)

const (
	defaultLease   = 30 * time.Second
	maxLease       = 10 * time.Minute
	feedRetryFirst = 200 * time.Millisecond
	feedRetryMost  = 2 * time.Second
)

var (
	errNoTrust  = errors.New("the bastion has not yet heard from its broker")
	errFeedLost = errors.New("the bastion has lost its broker and opens nothing new")
	errSilence  = errors.New("the feed is silent")
	errWitness  = errors.New("the broker's audit log does not extend what this bastion has seen, so it opens nothing new")
)

// trust is api.Trust, parsed.
type trust struct{ access, host, front sshca.Bundle }

func parseTrust(t api.Trust) (*trust, error) {
	var out trust
	for _, b := range []struct {
		name  string
		lines []string
		to    *sshca.Bundle
	}{{"access", t.AccessCAs, &out.access}, {"host", t.HostCAs, &out.host}, {"front", t.FrontCAs, &out.front}} {
		bundle, err := sshca.ParseBundle(b.lines)
		if err != nil {
			return nil, fmt.Errorf("trust bundle %s: %w", b.name, err)
		}
		*b.to = bundle
	}
	return &out, nil
}

// feed follows the broker's revocation feed. It is connected from a trust item on until an item
// fails to come in time; after that what lives goes on until the lease of the last item ends.
type feed struct {
	control Control
	reg     *registry
	witness func(context.Context, []byte) error
	store   feedStore
	log     *slog.Logger
	silence time.Duration
	acks    *ackQueue

	dropFront func(serial uint64) // takes a certificate of the bastion's own out of use
	report    func([]api.Report)
	seen      chan []byte   // the latest checkpoint, for the witness
	moved     chan struct{} // of capacity 1: the mark is to be saved
	saving    sync.Mutex
	carried   chan carried  // revocations of which all is severed, in their order
	turned    chan struct{} // of capacity 1: fallen has changed

	mu         sync.Mutex
	connected  bool
	fallen     bool // lost, and not back until a heartbeat
	trusted    *trust
	keys       map[string]string // registered keys: ID by fingerprint, as the last whole set has them
	coming     map[string]string // a set of which parts are missing yet
	lease      time.Duration
	mark       feedMark
	unwitness  error
	silent     *time.Timer
	leaseTimer *time.Timer
	ready      chan struct{} // closed at the first trust item
}

// run follows the feed until ctx ends, and then ends nothing: that is for the bastion.
func (f *feed) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.acks.run(ctx) })
	g.Go(func() error { return f.watchCheckpoints(ctx) })
	g.Go(func() error { return f.keepMark(ctx) })
	g.Go(func() error { return f.tellSessions(ctx) })
	g.Go(func() error { f.carryOut(); return nil })
	g.Go(func() error { defer close(f.carried); return f.follow(ctx) })
	return g.Wait()
}

func (f *feed) follow(ctx context.Context) error {
	defer f.stopTimers()
	wait := feedRetryFirst
	for ctx.Err() == nil {
		had := f.once(ctx)
		if had {
			wait = feedRetryFirst
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, feedRetryMost)
	}
	return nil
}

// once makes one connection to the feed and reports whether an item came.
func (f *feed) once(ctx context.Context) (had bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.mu.Lock()
	mark := f.mark
	f.keys, f.coming = nil, nil // the broker says which there are, or there are none
	f.silent = time.AfterFunc(f.silence, func() { f.lost(errSilence); cancel(errSilence) })
	silent := f.silent
	f.mu.Unlock()
	err := f.control.Feed(ctx, mark.Index, mark.Checkpoint, func(item api.FeedItem) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		had = true
		return f.handle(item)
	})
	silent.Stop()
	f.lost(err)
	return had
}

// following reports whether there is a feed.
func (f *feed) following() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.connected
}

// lost opens nothing new from now on. The lease goes on from the last item.
func (f *feed) lost(err error) {
	f.mu.Lock()
	was := f.connected
	f.connected = false
	f.mu.Unlock()
	if was {
		f.log.Warn("feed lost: no new sessions", "error", err)
		f.step(true)
	}
}

// step has the sessions told that the feed is lost, or that it is back.
func (f *feed) step(lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fallen == lost || f.connected == lost { // a heartbeat of a connection that was given up mends nothing
		return
	}
	f.fallen = lost
	select {
	case f.turned <- struct{}{}:
	default:
	}
}

// tellSessions carries steps out: however many sessions there are, they must not hold up the next
// revocation, nor let the feed fall silent again.
func (f *feed) tellSessions(ctx context.Context) error {
	told := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.turned:
		}
		f.mu.Lock()
		fallen := f.fallen
		f.mu.Unlock()
		if fallen != told {
			told = fallen
			f.reg.step(api.OnBroker, fallen, f.report)
		}
	}
}

func (f *feed) stopTimers() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connected = false
	for _, t := range []*time.Timer{f.silent, f.leaseTimer} {
		if t != nil {
			t.Stop()
		}
	}
}

// handle takes one item. An error ends the connection to the feed, which is as good as losing it.
func (f *feed) handle(item api.FeedItem) error {
	if err := f.take(item); err != nil {
		f.log.Error("feed item refused", "type", item.Type, "error", err)
		return err
	}
	f.heard(item)
	return nil
}

func (f *feed) take(item api.FeedItem) error {
	switch {
	case item.Type == api.FeedTrust && item.Trust != nil:
		return f.setTrust(*item.Trust)
	case item.Type == api.FeedRevoke && item.Revocation != nil:
		f.revoke(*item.Revocation)
		return nil
	case item.Type == api.FeedKeys && item.Keys != nil:
		return f.setKeys(*item.Keys)
	case item.Type == api.FeedHeartbeat:
		f.step(false) // what was revoked meanwhile came before it
		return nil
	}
	return fmt.Errorf("feed item of type %q is incomplete or unknown", clip(item.Type))
}

func (f *feed) setTrust(t api.Trust) error {
	parsed, err := parseTrust(t)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trusted == nil {
		close(f.ready)
	}
	f.trusted, f.connected = parsed, true
	if t.Version > 0 {
		f.acks.put(api.Ack{Index: -1, Trust: t.Version}) // after it is in force: a rotation goes on by it
	}
	return nil
}

// carried is a revocation that is being carried out.
type carried struct {
	api.Revocation
	*cutting
	began time.Time
}

// carriedMost is how many revocations may be in that state. One more waits, for partTime at most.
const carriedMost = 64

// revoke severs what the revocation touches. carryOut does the rest: a person who is slow to hear of it holds up no other
// revocation.
func (f *feed) revoke(r api.Revocation) {
	began := time.Now()
	if r.Profile == api.ProfileFront && f.dropFront != nil {
		f.dropFront(r.Serial)
	}
	f.carried <- carried{r, f.reg.revoke(r), began}
}

// carryOut cuts first, acknowledges second and remembers third: a bastion that dies in between has no session left that
// the revocation could miss. It ends with the last revocation.
func (f *feed) carryOut() {
	for r := range f.carried {
		closed := r.finish()
		f.acks.put(api.Ack{Index: r.Index, Closed: closed})
		f.log.Info("revocation carried out", "index", r.Index, "event", r.EventID, "closed", closed, "took", time.Since(r.began))
		f.remember(r.Index)
	}
}

// remember moves the mark on.
func (f *feed) remember(index int64) {
	f.mu.Lock()
	f.mark.Index = max(f.mark.Index, index)
	f.mu.Unlock()
	select {
	case f.moved <- struct{}{}: // a disk must not hold up the next revocation
	default:
	}
}

// heard renews silence and lease.
func (f *feed) heard(item api.FeedItem) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if item.LeaseMS > 0 {
		f.lease = min(time.Duration(item.LeaseMS)*time.Millisecond, maxLease)
	}
	f.silent.Reset(f.silence)
	if f.leaseTimer == nil {
		f.leaseTimer = time.AfterFunc(f.lease, f.endLease)
	} else {
		f.leaseTimer.Reset(f.lease)
	}
	if item.Checkpoint != "" && f.witness != nil {
		f.offer(item.Checkpoint)
	}
}

func (f *feed) endLease() {
	n := f.reg.cut(everybody, leaseEnded()).finish()
	f.log.Error("lease ended: every session closed", "closed", n)
}

// offer leaves the latest checkpoint for the witness; the caller holds mu.
func (f *feed) offer(encoded string) {
	note, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		f.unwitness = fmt.Errorf("%w: checkpoint is not base64", errWitness)
		return
	}
	select {
	case <-f.seen:
	default:
	}
	f.seen <- note
}

// watchCheckpoints shows checkpoints to the witness. Until it is content with one, nothing new opens.
func (f *feed) watchCheckpoints(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case note := <-f.seen:
			f.judge(ctx, note)
		}
	}
}

func (f *feed) judge(ctx context.Context, note []byte) {
	err := f.witness(ctx, note)
	f.mu.Lock()
	if f.unwitness = nil; err == nil {
		f.mark.Checkpoint = note
	} else {
		f.unwitness = errWitness
	}
	f.mu.Unlock()
	if err != nil {
		f.log.Error("checkpoint refused: no new sessions", "error", err)
		return
	}
	f.saveMark()
}

// open returns nil where something new may be opened now.
func (f *feed) open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.trusted == nil:
		return errNoTrust
	case !f.connected:
		return errFeedLost
	}
	return f.unwitness
}

// trustNow returns the CAs to verify with; before the first trust item it trusts nobody.
func (f *feed) trustNow() *trust {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trusted == nil {
		return &trust{}
	}
	return f.trusted
}
