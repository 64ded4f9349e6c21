package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"sega/broker/api"
)

// maxText bounds a problem's texts in bytes.
const maxText = 2 << 10

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
	kind := api.KindInternal
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		kind = api.KindUnreachable
	}
	return api.Errorf(kind, "%s answers with HTTP status %d, and not as a sega broker does", c.origin, status).
		WithHint("check the broker's address (SEGA_BROKER) and any proxy in between")
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
	if hint := certificateHint(err); hint != "" {
		return api.Errorf(api.KindUnreachable, "the certificate of %s is not trusted", c.origin).WithHint("%s", hint).WithCause(bare(err))
	}
	return api.Errorf(api.KindUnreachable, "the broker at %s cannot be reached: %s", c.origin, reason(ctx, err)).
		WithHint("check the network and the broker's address: %s", c.origin).WithCause(bare(err))
}

// bare drops the layer of net/http that quotes the URL.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func certificateHint(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		verify  *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &name):
		return "it is made out to another name: check the broker's address (SEGA_BROKER)"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it is not valid now: check this machine's clock, and SEGA_CA_FILE"
	case errors.As(err, &unknown), errors.As(err, &invalid), errors.As(err, &verify):
		return "set SEGA_CA_FILE to the certificate of your company's CA"
	}
	return ""
}

// reason says in a few words of ours why the network failed.
func reason(ctx context.Context, err error) string {
	var (
		dns     *net.DNSError
		timeout net.Error
	)
	switch {
	case errors.Is(context.Cause(ctx), errIdle):
		return errIdle.Error()
	case errors.As(err, &dns) && dns.IsNotFound:
		return "its name is not known"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the answer is cut short"
	case broken(err):
		return "the connection broke"
	}
	return "the exchange failed"
}

// broken reports whether the connection was lost, as opposed to never made or refused.
func broken(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
