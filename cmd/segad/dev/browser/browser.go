package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp/totp"
)

const (
	maxSteps = 20      // pages and redirects of one visit
	maxPage  = 1 << 20 // bytes
)

// Credentials are what the person knows and has, and how they decide.
type Credentials struct {
	Email      string
	Password   string
	TOTPSecret string // base32; "" where the person has no authenticator
	Cancel     bool   // press "Cancel" where a login asks for anything
	Deny       bool   // deny a device instead of approving it
}

// Browser is a scripted browser with a cookie jar: a second Visit meets the provider's session of
// the first. It serves one visit at a time.
type Browser struct {
	Now func() time.Time // clock of the authenticator; nil means time.Now

	client *http.Client
}

// PageError is a page that says no.
type PageError struct {
	Status  int
	Message string // what the page shows
}

// Error implements error.
func (e *PageError) Error() string {
	return fmt.Sprintf("browser: the page (HTTP status %d) says: %s", e.Status, e.Message)
}

// Visit opens an address in a new browser; see Browser.Visit.
func Visit(ctx context.Context, address string, c Credentials) error {
	return (&Browser{}).Visit(ctx, address, c)
}

// Visit opens an address, fills in every form that comes, and returns when a page without a form
// has been reached, such as the callback of a login. Errors: *PageError for a page that refuses or
// a form that comes back with a message; a form that asks for what c does not have.
func (b *Browser) Visit(ctx context.Context, address string, c Credentials) error {
	_, err := b.walk(ctx, address, c, "")
	return err
}

// Address is Visit, but returns the address that a redirect leads to as soon as it begins with
// prefix, without opening it: what the address bar shows where nothing listens.
func (b *Browser) Address(ctx context.Context, address string, c Credentials, prefix string) (string, error) {
	last, err := b.walk(ctx, address, c, prefix)
	if err == nil && last == "" {
		err = fmt.Errorf("browser: the visit ended without reaching an address that begins with %s", prefix)
	}
	return last, err
}

// walk goes from request to request; it returns the address at which it stopped for prefix.
func (b *Browser) walk(ctx context.Context, address string, c Credentials, prefix string) (string, error) {
	if err := b.start(); err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", errors.New("browser: not an address")
	}
	for range maxSteps {
		resp, body, err := b.fetch(req)
		if err != nil {
			return "", err
		}
		next, err := b.next(ctx, resp, body, c)
		if err != nil || next == nil {
			return "", err
		}
		if prefix != "" && next.Method == http.MethodGet && strings.HasPrefix(next.URL.String(), prefix) {
			return next.URL.String(), nil
		}
		req = next
	}
	return "", fmt.Errorf("browser: no end after %d pages", maxSteps)
}

// start makes the client on first use.
func (b *Browser) start() error {
	if b.client != nil {
		return nil
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return fmt.Errorf("browser: cookie jar: %w", err)
	}
	b.client = &http.Client{
		Jar: jar, Timeout: 30 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true}, // no connection outlives the visit
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

// fetch performs a request to loopback, and to nowhere else.
func (b *Browser) fetch(req *http.Request) (*http.Response, []byte, error) {
	ip := net.ParseIP(req.URL.Hostname())
	if req.URL.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, nil, fmt.Errorf("browser: refuse to open %s, which is not on loopback", req.URL.Host)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("browser: %w", withoutQuery(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	if err != nil {
		return nil, nil, fmt.Errorf("browser: read the page: %w", err)
	}
	return resp, body, nil
}

// withoutQuery drops the query from the address in err: it may hold a live code.
func withoutQuery(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		address, _, _ := strings.Cut(failed.URL, "?")
		return fmt.Errorf("open %s: %w", address, failed.Err)
	}
	return err
}

// next decides what follows a page: a redirect, a form, or nil for the end.
func (b *Browser) next(ctx context.Context, resp *http.Response, body []byte, c Credentials) (*http.Request, error) {
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return follow(ctx, resp)
	}
	p, err := parsePage(body)
	if err != nil {
		return nil, err
	}
	if p.alert != "" {
		return nil, &PageError{resp.StatusCode, p.alert}
	}
	if resp.StatusCode >= 400 {
		return nil, &PageError{resp.StatusCode, p.text}
	}
	if p.form == nil {
		return nil, nil
	}
	if err := b.fill(p.form, c); err != nil {
		return nil, err
	}
	return p.form.submit(ctx, resp.Request.URL)
}

// follow turns a redirect into the request that it asks for. 307 and 308 would repeat a form with
// a password elsewhere, and no login needs them.
func follow(ctx context.Context, resp *http.Response) (*http.Request, error) {
	to, err := resp.Location()
	if err != nil || resp.StatusCode > http.StatusSeeOther {
		return nil, &PageError{resp.StatusCode, "a redirect that cannot be followed"}
	}
	return http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
}

// fill answers a form as the person would.
func (b *Browser) fill(f *form, c Credentials) error {
	for _, field := range []struct{ name, value string }{{"email", c.Email}, {"password", c.Password}} {
		if !f.has(field.name) {
			continue
		}
		if field.value == "" && !c.Cancel {
			return fmt.Errorf("browser: the page asks for the %s, and there is none", field.name)
		}
		f.values.Set(field.name, field.value)
	}
	if f.has("totp") && !c.Cancel {
		code, err := b.code(c)
		if err != nil {
			return err
		}
		f.values.Set("totp", code)
	}
	wanted := []string{"approve", "continue"}
	if c.Deny {
		wanted[0] = "deny"
	}
	if c.Cancel {
		wanted = append([]string{"cancel"}, wanted...)
	}
	return f.press(wanted)
}

// code returns the authenticator's current code.
func (b *Browser) code(c Credentials) (string, error) {
	if c.TOTPSecret == "" {
		return "", errors.New("browser: the page asks for a one-time code, and there is no authenticator")
	}
	now := time.Now
	if b.Now != nil {
		now = b.Now
	}
	code, err := totp.GenerateCode(c.TOTPSecret, now())
	if err != nil {
		return "", errors.New("browser: the authenticator's secret is not base32")
	}
	return code, nil
}
