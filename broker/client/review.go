package client

import (
	"context"
	"io"
	"iter"
	"net/url"
	"strings"

	"sega/broker/api"
)

// Events yields the events that match; the names of the query are api.Param…. An error is the
// last thing yielded; without one the list is whole.
func (c *Client) Events(ctx context.Context, query url.Values) iter.Seq2[api.Event, error] {
	return stream[api.Event](ctx, c, get(api.RouteEvents, query, typeNDJSON))
}

// Recording opens the recording of an SSH session; purpose is "play" or "verify". The caller
// closes it. Reading ends with an error, never with io.EOF, when the connection breaks before the end.
func (c *Client) Recording(ctx context.Context, id, purpose, reason string) (io.ReadCloser, error) {
	if id == "" || id == "." || id == ".." {
		return nil, api.Errorf(api.KindInvalid, "a recording is named by its session: ssh_…")
	}
	path := strings.Replace(api.RouteRecording, "{id}", url.PathEscape(id), 1)
	return c.open(ctx, get(path, url.Values{"purpose": {purpose}, "reason": {reason}}, typeBytes))
}
