package client

import (
	"context"
	"iter"
	"net/url"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"sega/broker/api"
)

// LogRows yields rows from..to-1 of the log exactly as stored. What is missing, repeated or out of
// order in it is for the verifier to judge and to name; here an error, the last thing yielded, says
// that the list did not arrive whole.
func (c *Client) LogRows(ctx context.Context, from, to int64) iter.Seq2[api.LogRow, error] {
	return stream[api.LogRow](ctx, c, get(api.RouteLog, span(from, to), typeNDJSON))
}

// Checkpoint returns the latest signed checkpoint, a note.
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.send(ctx, get(api.RouteCheckpoint, nil, typeText).as(withNothing))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return c.readAll(resp, maxHeaders)
}

// Consistency returns the proof that the tree of size to extends that of size from.
func (c *Client) Consistency(ctx context.Context, from, to int64) (api.Consistency, error) {
	out, err := fetch[api.Consistency](ctx, c, get(api.RouteConsistency, span(from, to), typeJSON).as(withNothing))
	if err == nil && (out.From != from || out.To != to) {
		return api.Consistency{}, c.notSega("a proof for other sizes of the tree")
	}
	return out, err
}

// Proof is Consistency in the form that audit.Witness takes.
func (c *Client) Proof(ctx context.Context, from, to int64) (tlog.TreeProof, error) {
	answer, err := c.Consistency(ctx, from, to)
	if err != nil {
		return nil, err
	}
	proof := make(tlog.TreeProof, len(answer.Proof))
	for i, h := range answer.Proof {
		if len(h) != tlog.HashSize {
			return nil, c.notSega("a proof that is not made of hashes")
		}
		proof[i] = tlog.Hash(h)
	}
	return proof, nil
}

func span(from, to int64) url.Values {
	return url.Values{"from": {strconv.FormatInt(from, 10)}, "to": {strconv.FormatInt(to, 10)}}
}
