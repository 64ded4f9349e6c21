package client

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/url"
	"strconv"
	"strings"

	"sega/broker/api"
)

// IndexSessions yields sessions that ended after the session.end of an index, -1 for all, in the
// order of their ends: a hundred at most. An error is the last thing yielded.
func (c *Client) IndexSessions(ctx context.Context, after int64) iter.Seq2[api.IndexSession, error] {
	return stream[api.IndexSession](ctx, c, get(api.RouteIndexSessions, url.Values{api.ParamAfter: {strconv.FormatInt(after, 10)}}, typeNDJSON))
}

// IndexRecording opens the recording of an SSH session for an indexer. The caller closes it.
// Reading ends with an error, never with io.EOF, when the connection breaks before the end.
func (c *Client) IndexRecording(ctx context.Context, id string) (io.ReadCloser, error) {
	if id == "" || id == "." || id == ".." {
		return nil, api.Errorf(api.KindInvalid, "a recording is named by its session: ssh_…")
	}
	return c.open(ctx, get(strings.Replace(api.RouteIndexRecording, "{id}", url.PathEscape(id), 1), nil, typeBytes))
}

// IndexSearches gives each question of the broker to handle, heartbeats too. It never returns nil:
// an error of handle as it is, the context's cause, or a Problem when the stream ends, breaks or
// is silent for longer than Config.FeedIdle. The caller asks anew.
func (c *Client) IndexSearches(ctx context.Context, handle func(api.IndexSearch) error) error {
	ctx, w, cancel := watched(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.send(ctx, get(api.RouteIndexSearches, nil, typeNDJSON))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w.idle = c.cfg.FeedIdle
	w.feed()
	var refused error
	err = c.lines(ctx, resp.Body, w, func(line []byte) (bool, error) {
		var search api.IndexSearch
		if json.Unmarshal(line, &search) != nil {
			refused = c.notSega("a search that does not fit its type")
		} else {
			refused = handle(search)
		}
		return refused == nil, refused
	})
	if refused != nil {
		return refused
	}
	return c.cut(ctx, err)
}

// IndexHits answers a search. A repeat has no effect.
func (c *Client) IndexHits(ctx context.Context, hits api.IndexHits) error {
	return done(fetch[api.Empty](ctx, c, post(api.RouteIndexHits, hits).again()))
}
