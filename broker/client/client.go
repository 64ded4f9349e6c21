package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"sega/broker/api/dpop"
	"sega/keychain/secret"
)

const (
	// DefaultTimeout bounds a call, and the silence within a stream other than the feed.
	DefaultTimeout = 30 * time.Second
	// DefaultFeedIdle is three missed heartbeats of the feed.
	DefaultFeedIdle = 3 * time.Second

	maxAnswer  = 8 << 20  // bytes of a JSON answer
	maxProblem = 64 << 10 // bytes of a problem
	maxLine    = 4 << 20  // bytes of a line of NDJSON
	maxHeaders = 64 << 10 // bytes
	maxNonce   = 256      // bytes
)

// Config says which broker, and as whom.
type Config struct {
	Origin    string               // "https://host[:port]"; http is refused
	RootCAs   *x509.CertPool       // nil: the system's
	Key       dpop.Key             // signs every request but that for the configuration; may be empty for that one
	Token     func() secret.Secret // the session's token at the time of each request; nil before login
	UserAgent string

	// Renew is called once where the broker takes the session for none, and where it returns nil the request
	// is repeated: a laptop whose clock is wrong does not see the session's end come. Its error is the call's,
	// but for ErrSessionOver, after which the broker's own word is. Nil: not at all.
	Renew func(ctx context.Context) error

	// OnCheckpoint is given the signed note of every answer and of the feed's items; its error
	// fails the call. An answer without one fails it as well. Nil where the log's key is not
	// known yet. It may be called concurrently.
	OnCheckpoint func(note []byte) error

	// Mark gives the newest checkpoint that a machine remembers; every request then shows it, so that
	// a broker restored from a backup notices (R10). Nil for people.
	Mark func() []byte

	Timeout  time.Duration // of a call; 0: DefaultTimeout
	FeedIdle time.Duration // silence after which the feed counts as lost; 0: DefaultFeedIdle
}

// ErrSessionOver is for a session that nothing prolongs any more.
var ErrSessionOver = errors.New("broker client: the session is over")

// Client talks to one broker. Safe for concurrent use.
type Client struct {
	cfg    Config
	origin string // normalised, without a slash at the end
	http   *http.Client

	mu    sync.Mutex
	nonce string
}

// New checks the configuration; it does not connect.
func New(cfg Config) (*Client, error) {
	origin, err := parseOrigin(cfg.Origin)
	if err != nil {
		return nil, err
	}
	if cfg.Timeout < 0 || cfg.FeedIdle < 0 {
		return nil, errors.New("broker client: a timeout must not be negative")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.FeedIdle == 0 {
		cfg.FeedIdle = DefaultFeedIdle
	}
	return &Client{cfg: cfg, origin: origin, http: &http.Client{
		Transport:     newTransport(cfg),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Witnessed returns a client that gives each answer's checkpoint to on (Config.OnCheckpoint), over
// the connections of c, with which on may ask for proofs.
func (c *Client) Witnessed(on func(note []byte) error) *Client {
	cfg := c.cfg
	cfg.OnCheckpoint = on
	return &Client{cfg: cfg, origin: c.origin, http: c.http}
}

// Origin is the broker's, as the proofs name it.
func (c *Client) Origin() string { return c.origin }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// parseOrigin takes "https://host[:port]" and nothing more: a path would be lost in the routes, and
// a user name is no place for a secret.
func parseOrigin(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", errors.New("broker client: the broker's address is not a URL: give https://host[:port]")
	}
	if u.Scheme != "https" {
		return "", errors.New("broker client: the broker's address must begin with https://")
	}
	if u.Hostname() == "" || u.User != nil || u.Opaque != "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", errors.New("broker client: the broker's address must be https://host[:port] and nothing more")
	}
	return "https://" + strings.ToLower(u.Host), nil
}

// newTransport speaks TLS 1.2 at the least. Its own silent repeats concern requests of which
// nothing was written, and GETs, which change nothing.
func newTransport(cfg Config) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		TLSHandshakeTimeout:    cfg.Timeout,
		ResponseHeaderTimeout:  cfg.Timeout,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    16,
		MaxResponseHeaderBytes: maxHeaders,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
			if res.StatusCode != http.StatusOK {
				return proxyError{res.StatusCode}
			}
			return nil
		},
	}
}

// address returns the URL of a route with its query.
func (c *Client) address(path string, query url.Values) string {
	if len(query) == 0 {
		return c.origin + path
	}
	return fmt.Sprintf("%s%s?%s", c.origin, path, query.Encode())
}

func (c *Client) lastNonce() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nonce
}

// keepNonce remembers the nonce of an answer.
func (c *Client) keepNonce(h http.Header) {
	nonce := h.Get("DPoP-Nonce")
	if nonce == "" || len(nonce) > maxNonce {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nonce = nonce
}
