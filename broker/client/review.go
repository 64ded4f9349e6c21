package client

import (
	"context"
	"iter"
	"net/url"

	"sega/broker/api"
)

// Events yields the events that match; the names of the query are api.Param…. An error is the
// last thing yielded; without one the list is whole.
func (c *Client) Events(ctx context.Context, query url.Values) iter.Seq2[api.Event, error] {
	return stream[api.Event](ctx, c, get(api.RouteEvents, query, typeNDJSON))
}
