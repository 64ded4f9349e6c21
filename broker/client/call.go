package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"

	"sega/broker/api"
	"sega/keychain/secret"
)

// proofOf says what a route asks of the caller.
type proofOf int

const (
	withSession proofOf = iota // a proof and the session's token
	withKey                    // a proof
	withNothing
)

// Content types of answers.
const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
	typeText   = "text/plain"
	typeBytes  = "application/octet-stream"
)

// call is one use of a route.
type call struct {
	method string
	path   string // as escaped
	query  url.Values
	body   any    // nil for none
	accept string // the one content type that will do
	proof  proofOf
	header http.Header // further request headers

	// immutable: caches may have kept the answer, so it carries no checkpoint.
	immutable bool

	// repeatable: the call may be sent again when the connection broke before the first byte of
	// an answer. What issues something is not: it may have been issued, and audited, already.
	repeatable bool
}

// get and post make the two kinds of call.
func get(path string, query url.Values, accept string) call {
	return call{method: http.MethodGet, path: path, query: query, accept: accept, repeatable: true}
}

func post(path string, body any) call {
	return call{method: http.MethodPost, path: path, body: body, accept: typeJSON}
}

func (k call) as(p proofOf) call { k.proof = p; return k }
func (k call) again() call       { k.repeatable = true; return k }

// fetch makes the call and decodes its JSON answer.
func fetch[T any](ctx context.Context, c *Client, k call) (T, error) {
	var out, zero T
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.send(ctx, k)
	if err != nil {
		return zero, err
	}
	defer resp.Body.Close()
	data, err := c.readAll(resp, maxAnswer)
	if err != nil {
		return zero, err
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return zero, c.notSega("an answer that does not fit its type")
	}
	return out, nil
}

// send makes the call and returns the answer when it is one of success, of the right type and with
// a good checkpoint. It repeats once for a nonce, and once for a connection that broke where that
// is harmless, each time with a proof of its own. The caller closes the body.
func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	body, err := encode(k.body)
	if err != nil {
		return nil, err
	}
	nonceTried, breakTried, renewTried := false, false, false
	for {
		resp, answered, err := c.once(ctx, k, body)
		if err != nil {
			if k.repeatable && !breakTried && !answered && broken(err) && ctx.Err() == nil {
				breakTried = true
				continue
			}
			return nil, c.failure(ctx, err)
		}
		err = c.judge(resp, k)
		if err == nil {
			api.Notice(ctx, resp.Header.Get(api.HeaderNotice))
			return resp, nil
		}
		resp.Body.Close()
		if api.IsKind(err, api.KindNonce) && !nonceTried {
			nonceTried = true
			continue
		}
		if api.IsKind(err, api.KindUnauthenticated) && !renewTried && c.renewable(k) {
			renewTried = true
			renewErr := c.cfg.Renew(ctx)
			if renewErr == nil {
				continue
			}
			if !errors.Is(renewErr, ErrSessionOver) {
				return nil, renewErr // a login would not help where the provider does not answer
			}
		}
		return nil, err
	}
}

// renewable reports whether a refused call may be worth a renewal of the session: not those that are
// about its end, or that renewal itself.
func (c *Client) renewable(k call) bool {
	if c.cfg.Renew == nil || k.proof != withSession {
		return false
	}
	switch k.path {
	case api.RouteRenew, api.RouteLogout, api.RouteSessionAck, api.RouteSessionFeed:
		return false
	}
	return true
}

// encode gives the JSON of a body, its secrets in the clear.
func encode(body any) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	if r, ok := body.(api.Revealer); ok {
		body = r.Wire()
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, api.Errorf(api.KindInvalid, "the request cannot be encoded").WithCause(fmt.Errorf("encode body: %T", body))
	}
	return data, nil
}

// once sends one request. answered says whether a byte of an answer had come when it failed.
func (c *Client) once(ctx context.Context, k call, body []byte) (resp *http.Response, answered bool, err error) {
	var first atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { first.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, k.method, c.address(k.path, k.query), reader(body))
	if err != nil {
		return nil, false, api.Errorf(api.KindInvalid, "the request's address is not valid")
	}
	if c.cfg.Mark != nil {
		if mark := c.cfg.Mark(); len(mark) > 0 {
			req.Header.Set(api.HeaderCheckpoint, base64.StdEncoding.EncodeToString(mark))
		}
	}
	for name, values := range k.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", k.accept+", application/problem+json")
	if body != nil {
		req.Header.Set("Content-Type", typeJSON)
	}
	if c.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", c.cfg.UserAgent)
	}
	if err := c.prove(req, k); err != nil {
		return nil, false, err
	}
	resp, err = c.http.Do(req)
	if err != nil {
		return nil, first.Load(), err
	}
	c.keepNonce(resp.Header)
	return resp, true, nil
}

func reader(body []byte) io.Reader {
	if body == nil {
		return nil
	}
	return bytes.NewReader(body)
}

// prove adds proof and token.
func (c *Client) prove(req *http.Request, k call) error {
	if k.proof == withNothing {
		return nil
	}
	var token secret.Secret
	if k.proof == withSession {
		if c.cfg.Token != nil {
			token = c.cfg.Token()
		}
		if token.Empty() {
			return api.Errorf(api.KindUnauthenticated, "there is no session with %s", c.origin).WithHint("run: sega login")
		}
		req.Header.Set("Authorization", "DPoP "+string(token.Reveal()))
	}
	proof, err := c.cfg.Key.Proof(k.method, c.origin+k.path, token, c.lastNonce())
	if err != nil {
		return api.Errorf(api.KindUnauthenticated, "the session's key is missing").WithHint("run: sega login").WithCause(err)
	}
	req.Header.Set(api.HeaderProof, proof)
	return nil
}

// judge accepts an answer or says why not. Of a refusal it reads the body.
func (c *Client) judge(resp *http.Response, k call) error {
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return api.Errorf(api.KindInternal, "%s answers with a redirect, which sega does not follow", c.origin).
			WithHint("check the broker's address (SEGA_BROKER); in a network that asks for a login of its own, open a page in the browser first").WithCause(ErrForeign)
	}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); resp.StatusCode == http.StatusOK && (err != nil || t != k.accept) {
		return c.notSega("another content type than " + k.accept).WithCause(ErrForeign) // a captive portal knows of no checkpoints either
	}
	if !k.immutable || resp.StatusCode != http.StatusOK {
		if err := c.witness(resp); err != nil {
			return err
		}
	}
	if resp.StatusCode != http.StatusOK {
		return c.problem(resp)
	}
	return nil
}

// witness hands the answer's checkpoint on. A refusal may lack one, since it may come from a
// proxy; what grants something may not.
func (c *Client) witness(resp *http.Response) error {
	if c.cfg.OnCheckpoint == nil {
		return nil
	}
	text := resp.Header.Get(api.HeaderCheckpoint)
	if text == "" && resp.StatusCode != http.StatusOK {
		return nil
	}
	return c.checkpoint(text)
}

func (c *Client) checkpoint(text string) error {
	if text == "" {
		return c.notSega("no checkpoint of its audit log")
	}
	note, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return c.notSega("a checkpoint that is not base64")
	}
	if err := c.cfg.OnCheckpoint(note); err != nil {
		return c.unwitnessed(err)
	}
	return nil
}

// unwitnessed tells a log that contradicts what was seen from a disk that cannot keep what was seen,
// and from a broker that went away before it had proven anything.
func (c *Client) unwitnessed(err error) error {
	var asked *api.Problem // the proof was asked of the same broker
	if errors.As(err, &asked) && asked.Kind == api.KindUnreachable {
		return asked
	}
	var disk *fs.PathError
	if errors.As(err, &disk) {
		return api.Errorf(api.KindInternal, "this machine cannot keep the checkpoint of the audit log of %s: %v", c.origin, disk.Err).
			WithHint("free or mend this machine's disk").WithCause(err)
	}
	return api.Errorf(api.KindInternal, "the checkpoint of the audit log of %s is refused: %v", c.origin, err).
		WithHint("tell your security staff: the log may have been rewritten").WithCause(err)
}

// readAll reads a body of at most limit bytes.
func (c *Client) readAll(resp *http.Response, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, c.failure(resp.Request.Context(), err)
	}
	if int64(len(data)) > limit {
		return nil, c.notSega(fmt.Sprintf("more than %d bytes", limit))
	}
	return data, nil
}
