package broker

import (
	"context"
	"time"

	"sega/audit/store"
	"sega/broker/state"
)

// peerPoll is how often a revocation looks for what bastions have told other brokers.
const peerPoll = 50 * time.Millisecond

// tellEvery is how often the other brokers are told that a bastion follows our feed still.
func (s *Server) tellEvery() time.Duration { return s.Times.Lease / 3 }

// tellPeers records that the bastion follows this broker's feed, so that a receipt of another one
// names it, and limits count its sessions no longer than there can be any. The lease that is recorded holds
// until it is told again, so it is at no time too short. A write that fails is tried again with the next
// heartbeat: where nothing can be written, nobody revokes either.
func (f *feeding) tellPeers(ctx context.Context, joins bool) {
	s, now := f.s, f.s.Now()
	if !joins && now.Sub(f.told) < s.tellEvery() {
		return
	}
	lease := now.Add(2*s.tellEvery() + feedWrite + s.Times.Lease)
	_, err := s.Log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		if !joins && !f.told.IsZero() {
			return state.KeepFollower(ctx, tx, f.c.session.Subject, s.Node, lease)
		}
		return state.PutFollower(ctx, tx, state.Follower{Machine: f.c.session.Subject, Name: f.c.session.Email, Node: s.Node, Acked: f.after, Lease: lease})
	})
	if err != nil {
		s.Logger.Warn("the database does not know that a bastion follows this broker", "bastion", f.c.session.Email, "error", err)
		return
	}
	f.told = now
}

// forgetAcks forgets acknowledgements of what has not been committed yet. They are of a history that the
// database has lost: a revocation that comes now has their index, and nobody has carried it out (I3).
func (s *Server) forgetAcks(ctx context.Context, tx store.Tx) error {
	s.hub.forget(tx.Next)
	return state.ForgetAcks(ctx, tx, tx.Next)
}

// hearPeers takes in what all brokers know of bastions.
func (s *Server) hearPeers(ctx context.Context) {
	if !s.Peers {
		return
	}
	var all []state.Follower
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		all, err = state.Followers(ctx, tx, s.Now())
		return err
	})
	if err != nil {
		s.Logger.Warn("what bastions told other brokers is not known", "error", err)
		return
	}
	s.hub.learn(all)
}

// lookAtPeers ticks while a revocation waits; without peers it does not.
func (s *Server) lookAtPeers() *time.Ticker {
	if s.Peers {
		return time.NewTicker(peerPoll)
	}
	t := time.NewTicker(time.Hour)
	t.Stop()
	return t
}
