package client

import (
	"context"
	"iter"
	"net/url"

	"sega/broker/api"
)

// Events yields the events that match; the names of the query are api.Param…. An error is the
// last thing yielded; without one the list is whole. With api.ParamFollow the list goes on with
// what comes, and ends without an error when the broker stops.
func (c *Client) Events(ctx context.Context, query url.Values) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		for line, err := range stream[api.EventLine](ctx, c, get(api.RouteEvents, query, typeNDJSON)) {
			switch {
			case err != nil:
				yield(api.Event{}, err)
				return
			case line.Problem != nil:
				yield(api.Event{}, c.cutShort(line.Problem))
				return
			case line.Heartbeat:
			case !yield(line.Event, nil):
				return
			}
		}
	}
}

// cutShort is the problem that ended a stream, as one that refuses a request is.
func (c *Client) cutShort(p *api.Problem) *api.Problem {
	if !known(p.Kind) {
		p.Kind = api.KindInternal
	}
	out := api.Errorf(p.Kind, "%s", printable(p.Detail)).WithHint("%s", printable(p.Hint))
	if out.Detail == "" {
		out.Detail = "the broker ended the list: " + out.Title
	}
	return out
}

// Count yields how many events match, by the dimensions of api.ParamBy. An error is the last thing
// yielded; without one the list is whole.
func (c *Client) Count(ctx context.Context, query url.Values) iter.Seq2[api.Group, error] {
	return stream[api.Group](ctx, c, get(api.RouteCount, query, typeNDJSON))
}
