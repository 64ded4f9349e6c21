package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"sega/broker/api"
)

// maxTile bounds a hash tile: 256 hashes.
const maxTile = 256 * tlog.HashSize

// LogRows yields rows from..to-1 of the log exactly as stored. What is missing, repeated or out of
// order in it is for the verifier to judge and to name; here an error, the last thing yielded, says
// that the list did not arrive whole.
func (c *Client) LogRows(ctx context.Context, from, to int64) iter.Seq2[api.LogRow, error] {
	return streamOf(ctx, c, get(api.RouteLog, span(from, to), typeNDJSON), decodeRow)
}

// Rollup is a line of RouteRollups: a count as stored.
type Rollup struct {
	Cube    string `json:"cube"`
	Day     string `json:"day"`
	Kind    string `json:"kind"`
	Outcome string `json:"outcome"`
	Email   string `json:"email"`
	Sub     string `json:"sub"`
	Target  string `json:"target"`
	N       int64  `json:"n"`
}

// Rollups gives every rollup of the log as stored to begin, once, how many events they count, and
// then each of them to each.
func (c *Client) Rollups(ctx context.Context, begin func(rolledUp int64), each func(Rollup)) error {
	begun := false
	err := c.run(ctx, get(api.RouteRollups, nil, typeNDJSON), func(line []byte) error {
		if !begun {
			var first struct {
				RolledUp *int64 `json:"rolled_up"`
			}
			if err := json.Unmarshal(line, &first); err != nil || first.RolledUp == nil {
				return c.notSega("rollups that do not say of how many events")
			}
			begun = true
			begin(*first.RolledUp)
			return nil
		}
		var r Rollup
		if err := json.Unmarshal(line, &r); err != nil {
			return c.notSega("a line that does not fit its type")
		}
		each(r)
		return nil
	})
	if err == nil && !begun {
		err = c.notSega("rollups that do not say of how many events")
	}
	return err
}

// Checkpoint returns the latest signed checkpoint, a note.
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	return c.bytes(ctx, get(api.RouteCheckpoint, nil, typeText).as(withNothing), maxHeaders)
}

// Tile returns the hash tile of a path like "tile/0/x001/234.p/5" (C2SP tlog-tiles).
func (c *Client) Tile(ctx context.Context, path string) ([]byte, error) {
	base, _, _ := strings.Cut(api.RouteTile, "tile/{")
	k := get(base+path, nil, typeBytes).as(withNothing)
	k.immutable = true
	return c.bytes(ctx, k, maxTile)
}

func (c *Client) bytes(ctx context.Context, k call, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.send(ctx, k)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return c.readAll(resp, limit)
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

// EventProof returns an event, named by its ID or its index, with all that proves it. It is for the
// caller to check.
func (c *Client) EventProof(ctx context.Context, name string) (api.Proof, error) {
	if name == "" || name == "." || name == ".." {
		return api.Proof{}, api.Errorf(api.KindInvalid, "an event is named by its ID or its index")
	}
	return fetch[api.Proof](ctx, c, get(strings.Replace(api.RouteProof, "{id}", url.PathEscape(name), 1), nil, typeJSON))
}

func span(from, to int64) url.Values {
	return url.Values{"from": {strconv.FormatInt(from, 10)}, "to": {strconv.FormatInt(to, 10)}}
}
