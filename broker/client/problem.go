package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"sega/broker/api"
)

// maxText bounds a problem's texts in bytes.
const maxText = 2 << 10

// ErrForeign is the cause of a Problem where something else than a sega broker has answered: a
// captive portal, a proxy, another server.
var ErrForeign = errors.New("not an answer of a sega broker")

// problem reads the refusal in an answer. The kind decides; one that this client does not know is
// KindInternal, and an answer that is no problem comes from something in between.
func (c *Client) problem(resp *http.Response) *api.Problem {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || t != "application/problem+json" {
		return c.foreign(resp.StatusCode)
	}
	data, err := c.readAll(resp, maxProblem)
	if err != nil {
		return api.AsProblem(err)
	}
	var p api.Problem
	if err := json.Unmarshal(data, &p); err != nil || p.Kind == "" {
		return c.notSega("a refusal that does not fit its type")
	}
	cleaned(&p).Status = resp.StatusCode
	return fillIn(&p, resp.Header)
}

// cleaned makes a problem of the network one of ours: of a known kind, with texts that are safe to show.
func cleaned(p *api.Problem) *api.Problem {
	if !known(p.Kind) {
		p.Kind = api.KindInternal
	}
	p.Status = p.Kind.Status()
	p.Type, p.Title = "urn:sega:error:"+string(p.Kind), strings.ReplaceAll(string(p.Kind), "_", " ")
	p.Detail, p.Hint = printable(p.Detail), printable(p.Hint)
	for i, id := range p.PolicyIDs {
		p.PolicyIDs[i] = printable(id)
	}
	return fillIn(p, nil)
}

// fillIn takes from the headers what the body does not say.
func fillIn(p *api.Problem, h http.Header) *api.Problem {
	if p.Detail == "" {
		p.Detail = "the broker says: " + p.Title
	}
	if p.RequestID == "" {
		p.RequestID = h.Get(api.HeaderRequestID)
	}
	p.RequestID = printable(p.RequestID)
	if secs, err := strconv.Atoi(h.Get("Retry-After")); err == nil && p.RetrySecs == 0 {
		p.RetrySecs = secs
	}
	p.RetrySecs = min(max(p.RetrySecs, 0), 24*60*60)
	return p
}

// known reports whether a kind is of the closed set: all but KindInternal have a status of their own.
func known(k api.Kind) bool {
	return k == api.KindInternal || k.Status() != http.StatusInternalServerError
}

// printable makes text of the network safe for a terminal: no control or formatting characters,
// and not endless.
func printable(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// foreign is for a refusal that is not the broker's.
func (c *Client) foreign(status int) *api.Problem {
	var cause error
	kind := api.KindUnreachable // of a balancer in front of it
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		kind, cause = api.KindInternal, ErrForeign
	}
	return api.Errorf(kind, "%s answers with HTTP status %d, and not as a sega broker does", c.origin, status).
		WithHint("check the broker's address (SEGA_BROKER) and any proxy in between").WithCause(cause)
}

// notSega is for an answer that breaks the contract of broker/api.
func (c *Client) notSega(what string) *api.Problem {
	return api.Errorf(api.KindInternal, "%s answers with %s", c.origin, what).
		WithHint("check that it is a sega broker (SEGA_BROKER) and that sega is up to date")
}

// failure makes a Problem of a failed exchange. The error's text never goes into it: that of
// net/http quotes addresses with their queries.
func (c *Client) failure(ctx context.Context, err error) error {
	var p *api.Problem
	if errors.As(err, &p) {
		return p
	}
	if cause := context.Cause(ctx); errors.Is(ctx.Err(), context.Canceled) && !errors.Is(cause, errIdle) {
		return fmt.Errorf("asking %s: %w", c.origin, cause)
	}
	if d, ok := Distrusted(err); ok {
		return api.Errorf(api.KindUnreachable, "the certificate of %s is not trusted: %s", c.origin, d.Why).WithHint("%s", c.trustHint(d)).WithCause(bare(err))
	}
	why, hint := Reason(err), "check the network and the broker's address: "+c.origin
	switch {
	case errors.Is(context.Cause(ctx), errIdle):
		why = errIdle.Error()
	case strings.HasPrefix(why, "the proxy"):
		hint = "check HTTPS_PROXY, and NO_PROXY where the broker is reached without a proxy"
	case errors.Is(err, http.ErrSchemeMismatch):
		err = fmt.Errorf("%w: %w", ErrForeign, bare(err))
	}
	return api.Errorf(api.KindUnreachable, "the broker at %s cannot be reached: %s", c.origin, why).WithHint("%s", hint).WithCause(bare(err))
}

// trustHint says what to do about a certificate of the broker.
func (c *Client) trustHint(d Distrust) string {
	switch {
	case d.Name:
		return "check the broker's address (SEGA_BROKER)"
	case d.Early:
		return "set this machine's clock"
	case d.Late:
		return "check this machine's clock, and SEGA_CA_FILE; if both are right, the broker's operators must renew it"
	case c.cfg.RootCAs != nil:
		return "SEGA_CA_FILE alone is trusted: it must hold the CA that has issued the certificate"
	}
	return "set SEGA_CA_FILE to a PEM file of your company's CA; where a proxy opens TLS, of the proxy's"
}

// bare drops the layer of net/http that quotes the URL.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
