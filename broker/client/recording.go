package client

import (
	"context"
	"io"
	"net/url"
	"strconv"
	"strings"

	"sega/broker/api"
)

// RecordingRequest says which recording, what for and why. Reason may be empty for api.PurposeVerify alone.
type RecordingRequest struct {
	ID      string
	Purpose string // one of api's purposes
	Reason  string
	From    int64 // byte to begin with
	Follow  bool  // api.PurposeTail: goes on with what comes until the session has ended
}

func (r RecordingRequest) query() url.Values {
	q := url.Values{api.ParamPurpose: {r.Purpose}, api.ParamReason: {r.Reason}}
	if r.From > 0 {
		q.Set(api.ParamFrom, strconv.FormatInt(r.From, 10))
	}
	if r.Follow {
		q.Set(api.ParamFollow, "1")
	}
	return q
}

// Recording opens the recording of an SSH session. The caller closes it. Reading ends with an error,
// never with io.EOF, when the connection breaks before the end. One that is followed may be silent
// for as long as its session is: there, pings of the connection find that the broker is gone.
func (c *Client) Recording(ctx context.Context, r RecordingRequest) (io.ReadCloser, error) {
	if r.ID == "" || r.ID == "." || r.ID == ".." {
		return nil, api.Errorf(api.KindInvalid, "a recording is named by its session: ssh_…")
	}
	path := strings.Replace(api.RouteRecording, "{id}", url.PathEscape(r.ID), 1)
	k := get(path, r.query(), typeBytes)
	if !r.Follow {
		return c.open(ctx, k)
	}
	ctx, cancel := context.WithCancel(ctx)
	resp, err := c.send(ctx, k)
	if err != nil {
		cancel()
		return nil, err
	}
	return &body{c: c, ctx: ctx, resp: resp, watch: unwatched{}, cancel: cancel}, nil
}

// unwatched lets a stream be silent.
type unwatched struct{}

func (unwatched) feed()  {}
func (unwatched) pause() {}
