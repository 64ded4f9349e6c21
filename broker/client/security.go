package client

import (
	"context"

	"sega/broker/api"
)

// Sessions lists what is live.
func (c *Client) Sessions(ctx context.Context) (api.Sessions, error) {
	return fetch[api.Sessions](ctx, c, get(api.RouteSessions, nil, typeJSON))
}

// Revoke cuts a subject off, or plans it. It is repeated when the connection breaks: to revoke
// twice does no harm, not to revoke does.
func (c *Client) Revoke(ctx context.Context, r api.RevokeRequest) (api.Receipt, error) {
	return fetch[api.Receipt](ctx, c, post(api.RouteRevoke, r).again())
}

// Unblock lets a revoked user log in anew.
func (c *Client) Unblock(ctx context.Context, r api.UnblockRequest) error {
	return done(fetch[api.Empty](ctx, c, post(api.RouteUnblock, r)))
}
