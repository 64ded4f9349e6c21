package client

import (
	"context"

	"sega/broker/api"
)

// Enroll spends a join token for the client's key. It is never repeated by itself.
func (c *Client) Enroll(ctx context.Context, r api.EnrollRequest) (api.Machine, error) {
	return fetch[api.Machine](ctx, c, post(api.RouteEnroll, r).as(withKey))
}

// MachineSession opens a session for the machine that the client's key is enrolled for.
func (c *Client) MachineSession(ctx context.Context) (api.MachineSession, error) {
	return machineSession(fetch[api.MachineSession](ctx, c, post(api.RouteMachine, api.Empty{}).as(withKey)))
}

// Ack says that every revocation up to an index is carried out. A repeat has no effect.
func (c *Client) Ack(ctx context.Context, a api.Ack) error {
	return done(fetch[api.Empty](ctx, c, post(api.RouteAck, a).again()))
}

// Hop asks for a one-hop certificate. It is never repeated by itself.
func (c *Client) Hop(ctx context.Context, r api.HopRequest) (api.Hop, error) {
	return fetch[api.Hop](ctx, c, post(api.RouteHop, r))
}

// Front asks for a host certificate of the front CA. It is never repeated by itself.
func (c *Client) Front(ctx context.Context, r api.FrontRequest) (api.Certificate, error) {
	return fetch[api.Certificate](ctx, c, post(api.RouteFront, r))
}

// Report hands events over. A repeat has no effect, because the bastion chose their IDs.
func (c *Client) Report(ctx context.Context, events []api.Report) error {
	return done(fetch[api.Empty](ctx, c, post(api.RouteReport, events).again()))
}

// Channel asks whether something may begin in a session. A repeat gets the same answer, because the
// bastion chose its ID.
func (c *Client) Channel(ctx context.Context, r api.ChannelRequest) (api.ChannelGrant, error) {
	return fetch[api.ChannelGrant](ctx, c, post(api.RouteChannel, r).again())
}
