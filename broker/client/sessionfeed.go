package client

import (
	"context"
	"errors"

	"sega/broker/api"
)

// SessionFeed follows what concerns the session: that it stands, with every heartbeat, and what revokes
// it. Each item goes to handle, in order, its checkpoint to OnCheckpoint before.
//
// It never returns nil: an error of handle as it is, the context's cause, or a Problem. Where the broker
// itself ends the feed, that is the Problem of the last item, which handle does not see: KindRevoked,
// KindUnauthenticated where the session has expired or was logged out, KindConflict where another feed of the
// session has taken this one's place, KindUnavailable where the broker stops. A feed that is lost, or silent for longer than
// Config.FeedIdle, is KindUnreachable: then what was agreed holds until its lease ends.
func (c *Client) SessionFeed(ctx context.Context, handle func(api.FeedItem) error) error {
	return c.follow(ctx, get(api.RouteSessionFeed, nil, typeNDJSON), checkSessionItem, func(item api.FeedItem) error {
		if item.Type == api.FeedEnd {
			return cleaned(item.Problem)
		}
		return handle(item)
	})
}

// SessionAck says that the agent has dropped what the revocation of an index touches. A repeat has no effect.
func (c *Client) SessionAck(ctx context.Context, a api.Ack) error {
	return done(fetch[api.Empty](ctx, c, post(api.RouteSessionAck, a).again()))
}

// checkSessionItem is checkItem for the feed of a session, whose every heartbeat says where the session stands.
func checkSessionItem(item api.FeedItem) error {
	switch item.Type {
	case api.FeedHeartbeat:
		s := item.Session
		if s == nil || s.Now.IsZero() || s.Expires.IsZero() || s.Standing == "" || item.LeaseMS <= 0 {
			return errors.New("a heartbeat that does not say where the session stands")
		}
		return nil
	case api.FeedEnd:
		if item.Problem == nil || item.Problem.Kind == "" {
			return errors.New("an end without its reason")
		}
		return nil
	}
	return checkItem(item)
}
