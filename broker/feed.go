package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// feedPage is how many revocations are read at once.
const feedPage = 500

// feedWrite is how long a bastion may take to accept an item before it counts as lost.
const feedWrite = 5 * time.Second

// feed streams revocations to a bastion, from the index after which it asks, with a heartbeat a
// second. What it sends is committed; what is committed it sends.
func (s *Server) feed(ctx context.Context, c *call) (any, error) {
	p := params{v: c.request.URL.Query()}
	after := p.number(api.ParamAfter, -1, -2)
	if err := p.done(); err != nil || after < -1 {
		return nil, api.Errorf(api.KindInvalid, "after is the index of the last revocation that was carried out, or -1")
	}
	if err := s.checkMark(ctx, c, c.session.Email); err != nil {
		return nil, err
	}
	if tree, err := s.treeWith(ctx, after+1); err != nil {
		return nil, err
	} else if after >= tree.N {
		return nil, api.Errorf(api.KindConflict, "the broker's log has %d events and no revocation of index %d", tree.N, after).
			WithHint("check the broker's log.recovery events, then restart the bastion with --accept-new-log")
	}
	return stream(func(w http.ResponseWriter) {
		f := &feeding{s: s, c: c, after: after, out: http.NewResponseController(w), w: w}
		f.conn = s.hub.join(c.session.Subject, c.session.Email, after)
		defer s.hub.leave(c.session.Subject, f.conn)
		f.tellPeers(ctx, true)
		if err := f.run(ctx); err != nil {
			s.Logger.Info("feed ended", "bastion", c.session.Email, "request", c.id, "reason", err)
		}
	}), nil
}

// feeding is one connection of a bastion.
type feeding struct {
	s     *Server
	c     *call
	w     http.ResponseWriter
	out   *http.ResponseController
	conn  int64
	after int64
	last  string     // event of the revocation that was sent last
	keys  int64      // state of the registered keys that was sent last
	told  time.Time  // when the other brokers were told last that it is here
	trust *api.Trust // that was sent last
}

func (f *feeding) run(ctx context.Context) error {
	unhurried(f.w)
	f.s.stamp(f.w)
	f.w.Header().Set("Content-Type", "application/x-ndjson")
	if err := f.sendTrust(f.s.trust()); err != nil {
		return err
	}
	tick := time.NewTicker(f.s.Times.Heartbeat)
	defer tick.Stop()
	for {
		wake := f.s.hub.waker() // before the read, so that nothing falls between
		if err := f.catchUp(ctx); err != nil {
			return err
		}
		if trust := f.s.trust(); trust != f.trust {
			if err := f.sendTrust(trust); err != nil {
				return err
			}
		}
		if err := f.tellKeys(ctx); err != nil {
			return err
		}
		f.tellPeers(ctx, false)
		// With every heartbeat: a bastion that could not prove the last one tries again in a second.
		note, _ := f.s.Log.Head()
		if err := f.send(api.FeedItem{Type: api.FeedHeartbeat, Checkpoint: base64.StdEncoding.EncodeToString(note)}); err != nil {
			return err
		}
		select {
		case <-wake:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-f.s.stop:
			return nil
		}
	}
}

// catchUp sends what was committed since, and ends the feed of a machine that was itself revoked.
func (f *feeding) catchUp(ctx context.Context) error {
	for {
		var page []state.Revocation
		var ok bool
		err := f.s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
			var err error
			if ok, err = state.Current(ctx, tx, f.c.bearer()); err != nil {
				return err
			}
			if err = f.rewind(ctx, tx); err != nil {
				return err
			}
			page, err = state.RevocationsAfter(ctx, tx, f.after, feedPage)
			return err
		})
		if err != nil {
			return err
		}
		if !ok || f.s.Now().After(f.c.session.NotAfter) {
			return errRevoked
		}
		for _, r := range page {
			item := api.Revocation{Index: r.Index, EventID: r.EventID, Issuer: r.Issuer, Subject: r.Subject, LoginID: r.LoginID, SessionID: r.SessionID,
				Profile: r.Profile, Serial: r.Serial, Host: r.Host, Reason: r.Reason}
			if err := f.send(api.FeedItem{Type: api.FeedRevoke, Revocation: &item}); err != nil {
				return err
			}
			f.after, f.last = r.Index, r.EventID
		}
		if len(page) < feedPage {
			return nil
		}
	}
}

// rewind goes back to the beginning where the revocation that was sent last is not in the database any more:
// another one may come in its place, which is to be sent too.
func (f *feeding) rewind(ctx context.Context, tx store.Querier) error {
	if f.last == "" {
		return nil
	}
	found, err := state.RevocationsAfter(ctx, tx, f.after-1, 1)
	if err == nil && (len(found) == 0 || found[0].EventID != f.last) {
		f.s.Logger.Error("a revocation that was sent is not in the database: sending all", "bastion", f.c.session.Email, "index", f.after)
		f.after, f.last = -1, ""
	}
	return err
}

func (f *feeding) sendTrust(trust *api.Trust) error {
	f.trust = trust
	return f.send(api.FeedItem{Type: api.FeedTrust, Trust: trust})
}

func (f *feeding) send(item api.FeedItem) error {
	item.LeaseMS = f.s.Times.Lease.Milliseconds()
	line, err := json.Marshal(item)
	if err != nil {
		return err
	}
	// The lease runs from before the item leaves: it may arrive at once.
	f.s.hub.sent(f.c.session.Subject, f.s.Now().Add(feedWrite+f.s.Times.Lease))
	if err := f.out.SetWriteDeadline(f.s.Now().Add(feedWrite)); err != nil {
		return err
	}
	if _, err := f.w.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.out.Flush()
}

// ack takes a bastion's word that it has cut what a revocation touches, or that it has a trust in force.
func (s *Server) ack(ctx context.Context, c *call) (any, error) {
	var a api.Ack
	if err := decode(c, &a); err != nil {
		return nil, err
	}
	if a.Trust != 0 {
		return api.Empty{}, s.sawTrust(ctx, c, api.MachineBastion, a.Trust)
	}
	s.hub.ack(c.session.Subject, a, s.Now())
	if !s.Peers {
		return api.Empty{}, nil
	}
	_, err := s.Log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		return state.AckFollower(ctx, tx, c.session.Subject, a.Index, int64(a.Closed), s.Now())
	})
	return api.Empty{}, unavailable(err)
}

// sawTrust records which trust a machine says that it has in force.
func (s *Server) sawTrust(ctx context.Context, c *call, kind string, version int64) error {
	_, err := s.Log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		newest, err := state.TrustVersion(ctx, tx) // of the database: another broker may have sent a newer one than we know of
		if err != nil {
			return err
		}
		if version < 0 || version > newest {
			return api.Errorf(api.KindInvalid, "no broker has sent a trust of version %d", version)
		}
		return state.SawTrust(ctx, tx, state.Seen{Machine: c.session.Subject, Name: c.session.Email, Kind: kind, Version: version, At: s.Now()})
	})
	return unavailable(err)
}
