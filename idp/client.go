package idp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxAnswer   = 1 << 20 // bytes of any answer of the identity provider
	callTimeout = 30 * time.Second
)

// newClient derives the client for all calls from hc (nil: the default one): no redirects, since a
// 307 would carry codes and tokens elsewhere; bounded bodies; a timeout in any case; no cookies.
func newClient(hc *http.Client) *http.Client {
	c := http.Client{}
	if hc != nil {
		c = *hc
	}
	if c.Timeout == 0 {
		c.Timeout = callTimeout
	}
	base := c.Transport
	if base == nil {
		base = http.DefaultTransport
	}
	c.Transport = bounded{base}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.Jar = nil
	return &c
}

// bounded limits the body of every answer to maxAnswer bytes.
type bounded struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.base.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}

// post sends a form to an endpoint and returns the body of a 2xx answer; everything else is an error.
func (p *Provider) post(ctx context.Context, endpoint string, form url.Values) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("%w: endpoint of the identity provider", ErrConfig)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	return p.send(req, form)
}

// send performs the request. The values of form are redacted from what the answer says about them.
func (p *Provider) send(req *http.Request, form url.Values) ([]byte, error) {
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: its answer broke off: %w", ErrUnreachable, err)
	}
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return body, nil
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return nil, fmt.Errorf("%w: HTTP status %d", ErrUnreachable, resp.StatusCode)
	}
	return nil, oauthError(resp.StatusCode, body, form)
}

// oauthError reads an error body (RFC 6749 §5.2).
func oauthError(status int, body []byte, sent url.Values) error {
	var answer struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return &OAuthError{Status: status}
	}
	return &OAuthError{
		Code:        printable(redact(answer.Code, sent), 60),
		Description: printable(redact(answer.Description, sent), 200),
		Status:      status,
	}
}

// redact removes from text what was sent as a secret: a provider may quote the token it refuses.
func redact(text string, sent url.Values) string {
	for _, name := range []string{"code", "code_verifier", "device_code", "refresh_token", "token"} {
		if v := sent.Get(name); v != "" {
			text = strings.ReplaceAll(text, v, "[redacted]")
		}
	}
	return text
}
