package idp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Browser logs a person in through the browser of this machine: authorization code with PKCE on a
// loopback redirect (RFC 8252). open gets the address and is called once, after the listener is
// ready; it must not wait for the login. The ports of l are tried in turn, since Okta compares the
// port too; the listener lives only while the login is pending and takes one answer.
//
// Give ctx a deadline: a redirect URI that is not registered shows an error in the browser and
// nothing here. Errors: ErrPortsBusy, ErrNoAnswer, ErrMixUp, ErrCallback, ErrDenied and the other
// sentinels of OAuthError, ErrUnreachable, ErrNoIDToken, and what open returns.
func (p *Provider) Browser(ctx context.Context, l Login, open func(url string) error) (Tokens, error) {
	l, err := l.normal()
	if err != nil {
		return Tokens{}, err
	}
	ln, err := listen(ctx, l.Ports)
	if err != nil {
		return Tokens{}, err
	}
	a := newAttempt(l, ln.Addr().(*net.TCPAddr).Port)
	code, err := p.await(ctx, a, ln, open)
	if err != nil {
		return Tokens{}, err
	}
	return p.redeem(ctx, a, code)
}

// listen binds the first free port on 127.0.0.1.
func listen(ctx context.Context, ports []int) (net.Listener, error) {
	var lc net.ListenConfig
	var last error
	for _, port := range ports {
		ln, err := lc.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return ln, nil
		}
		last = err
	}
	return nil, fmt.Errorf("%w (%v): %w\n  end what listens there, or log in by pasting the address", ErrPortsBusy, ports, last)
}

// callback is the handler of the redirect. Only the first answer with the right state counts.
type callback struct {
	provider *Provider
	attempt  attempt
	got      chan outcome // capacity 1
}

type outcome struct {
	code string
	err  error
}

// await serves the redirect until its answer or the end of ctx.
func (p *Provider) await(ctx context.Context, a attempt, ln net.Listener, open func(string) error) (string, error) {
	c := &callback{provider: p, attempt: a, got: make(chan outcome, 1)}
	srv := &http.Server{
		Handler: c, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: log.New(io.Discard, "", 0), // it would print what strangers send
	}
	srv.SetKeepAlivesEnabled(false)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	defer func() {
		stop(ctx, srv)
		<-served
	}()

	opened := open(p.address(a))
	select {
	case o := <-c.got:
		return o.code, o.err
	default:
	}
	if opened != nil {
		return "", fmt.Errorf("open the browser: %w", opened)
	}
	select {
	case o := <-c.got:
		return o.code, o.err
	case <-ctx.Done():
		return "", a.unanswered(ctx)
	}
}

// stop lets the answer page go out, then closes whatever is still connected: browsers keep idle
// connections open that they never use.
func stop(ctx context.Context, srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		_ = srv.Close()
	}
}

// unanswered explains a login that ended without an answer.
func (a attempt) unanswered(ctx context.Context) error {
	cause := context.Cause(ctx)
	if !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("the login was cancelled: %w", cause)
	}
	return fmt.Errorf("%w: %w\n  if it showed an error about redirect_uri: have %s registered for client %s at the identity provider\n  if the browser runs on another machine: log in by pasting the address",
		ErrNoAnswer, cause, a.redirect, a.login.ClientID)
}

// ServeHTTP takes the answer. Whatever is not the answer gets a refusal and changes nothing; the
// Host check keeps out pages that reach 127.0.0.1 by a name of their own.
func (c *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Host != "127.0.0.1:"+strconv.Itoa(c.attempt.port) || r.URL.EscapedPath() != c.attempt.login.Path {
		page(w, http.StatusNotFound, "There is nothing here.")
		return
	}
	if r.Method != http.MethodGet {
		page(w, http.StatusMethodNotAllowed, "There is nothing here.")
		return
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		page(w, http.StatusBadRequest, "This is not the answer to the pending login.")
		return
	}
	code, err := c.provider.answer(c.attempt, q)
	if errors.Is(err, ErrState) {
		page(w, http.StatusBadRequest, "This is not the answer to the pending login.")
		return
	}
	select {
	case c.got <- outcome{code, err}:
	default:
		page(w, http.StatusGone, "This login has been answered already.")
		return
	}
	if err != nil {
		page(w, http.StatusOK, "The login did not succeed. The terminal says why; you may close this page.")
		return
	}
	page(w, http.StatusOK, "The answer has arrived. Go back to the terminal; you may close this page.")
}

// page writes a static page: nothing of the request or of a token is in it.
func page(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<!doctype html><html lang=\"en\"><title>sega</title><p>"+text+"</p></html>\n")
}
