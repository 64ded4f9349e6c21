package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"sega/broker/api"
)

// errFeedStart is for a feed that does not begin with the trust bundle.
var errFeedStart = errors.New("the feed does not begin with the trust bundle")

// Feed follows the revocation feed and gives each item to handle, in order. It asks for what came
// after the revocation of index after, and shows the broker the last checkpoint that the bastion
// has kept (a signed note; nil for none), in the header Sega-Checkpoint, so that a broker restored
// from a backup notices (R10). Checkpoints of items go to OnCheckpoint before handle sees the item.
//
// It never returns nil: an error of handle as it is, the context's cause, or a Problem when the
// feed ends, breaks, is silent for longer than Config.FeedIdle, or says what this version cannot read.
// The caller reconnects with the index of the last revocation that it has carried out.
func (c *Client) Feed(ctx context.Context, after int64, checkpoint []byte, handle func(api.FeedItem) error) error {
	k := get(api.RouteFeed, url.Values{api.ParamAfter: {strconv.FormatInt(after, 10)}}, typeNDJSON)
	if len(checkpoint) > 0 {
		k.header = http.Header{api.HeaderCheckpoint: {base64.StdEncoding.EncodeToString(checkpoint)}}
	}
	return c.follow(ctx, k, checkItem, handle)
}

// follow reads a feed, of which check says whether an item can be obeyed.
func (c *Client) follow(ctx context.Context, k call, check func(api.FeedItem) error, handle func(api.FeedItem) error) error {
	ctx, w, cancel := watched(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.send(ctx, k)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w.idle = c.cfg.FeedIdle
	w.feed()
	first := true
	var refused error
	err = c.lines(ctx, resp.Body, w, func(line []byte) (bool, error) {
		refused = c.feedItem(line, first, check, handle)
		first = false
		return refused == nil, refused
	})
	if refused != nil {
		return refused
	}
	return c.cut(ctx, err)
}

// feedItem reads a line and hands it on.
func (c *Client) feedItem(line []byte, first bool, check func(api.FeedItem) error, handle func(api.FeedItem) error) error {
	var item api.FeedItem
	if err := json.Unmarshal(line, &item); err != nil {
		return c.notSega("a line of the feed that does not fit its type")
	}
	err := check(item)
	if first && item.Type != api.FeedTrust {
		err = errFeedStart
	}
	if err != nil {
		return c.notSega("a feed that cannot be obeyed: " + err.Error())
	}
	if item.Checkpoint != "" && c.cfg.OnCheckpoint != nil {
		if err := c.checkpoint(item.Checkpoint); err != nil {
			return err
		}
	}
	return handle(item)
}

// checkItem refuses items of unknown type, and revocations without exactly one subject: a bastion
// that cannot read an order must not go on as if there were none.
func checkItem(item api.FeedItem) error {
	switch item.Type {
	case api.FeedHeartbeat:
		return nil
	case api.FeedTrust:
		if item.Trust == nil {
			return errors.New("a trust item without its bundle")
		}
		return nil
	case api.FeedRevoke:
		if item.Revocation == nil || !oneSubject(*item.Revocation) {
			return errors.New("a revocation without exactly one subject")
		}
		return nil
	case api.FeedKeys:
		if item.Keys == nil {
			return errors.New("registered keys without their set")
		}
		return nil
	}
	return errors.New("an item of a type that this version does not know")
}

func oneSubject(r api.Revocation) bool {
	n := 0
	for _, set := range []bool{r.Issuer != "" && r.Subject != "", r.LoginID != "", r.SessionID != "", r.Profile != "" && r.Serial != 0, r.Host != ""} {
		if set {
			n++
		}
	}
	return n == 1 && (r.Issuer == "") == (r.Subject == "") && (r.Profile == "") == (r.Serial == 0)
}
