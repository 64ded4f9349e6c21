package client

import (
	"context"
	"net/url"

	"sega/broker/api"
)

// Nonce returns a fresh nonce of the broker, for a KeyProof: it is good for two minutes.
func (c *Client) Nonce(ctx context.Context) (string, error) {
	if _, err := c.Status(ctx); err != nil {
		return "", err
	}
	return c.lastNonce(), nil
}

// RegisterKey registers a public key of the caller's. It is never repeated by itself: the proof is good once.
func (c *Client) RegisterKey(ctx context.Context, r api.RegisterKeyRequest) (api.Key, error) {
	return fetch[api.Key](ctx, c, post(api.RouteKeys, r))
}

// Keys lists the registered keys of a person, "*" for everybody's, "" for the caller's own.
func (c *Client) Keys(ctx context.Context, user string) (api.Keys, error) {
	var q url.Values
	if user != "" {
		q = url.Values{api.ParamUser: {user}}
	}
	return fetch[api.Keys](ctx, c, get(api.RouteKeys, q, typeJSON))
}
