package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
)

// bodyLimit bounds what a request may send.
const bodyLimit = 1 << 20

// unavailable is what people read when events cannot be made durable: nothing was issued (I1).
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return asProblem(err)
}

// asProblem is api.AsProblem, and knows the store's errors.
func asProblem(err error) *api.Problem {
	var p *api.Problem
	if errors.As(err, &p) {
		return p
	}
	if errors.Is(err, store.ErrSetBack) {
		return api.Errorf(api.KindUnavailable, "the broker's database was set back, so nothing is issued").
			WithHint("the operators must restart the broker, which then voids every session").WithCause(err)
	}
	if errors.Is(err, store.ErrTooBroad) {
		return api.Errorf(api.KindInvalid, "a text of one or two letters would be looked for in the whole log").
			WithHint("write three letters at least, in quotes where there are blanks, or narrow it by user:, host: or since:").WithCause(err)
	}
	if errors.Is(err, store.ErrUnreadable) {
		return api.Errorf(api.KindUnavailable, "the broker's database does not answer, so nothing is issued").
			WithHint("start the database or repair it; service resumes by itself").WithCause(err)
	}
	if errors.Is(err, store.ErrUnavailable) && !errors.Is(err, audit.ErrInvalid) {
		return api.Errorf(api.KindUnavailable, "the broker cannot write its audit log, so nothing is issued: %s", storeReason(err)).
			WithHint("free the broker's disk or repair it; service resumes by itself").WithCause(err)
	}
	return api.AsProblem(err)
}

// storeReason is the part of a store's error that may leave the broker.
func storeReason(err error) string {
	msg := err.Error()
	for match, say := range map[string]string{"full": "its disk is full", "readonly": "its disk is read-only", "read-only": "its disk is read-only"} {
		if containsFold(msg, match) {
			return say
		}
	}
	return "its database does not take writes"
}

// serve wraps an endpoint in the skeleton.
func (s *Server) serve(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.Now()
		c := &call{id: newRequestID(), request: r, writer: w, source: s.source(r)}
		status := http.StatusOK
		defer func() { s.metrics.observe(e.route, status, s.Now().Sub(start)) }()
		s.head(w, c)
		r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
		reply, err := s.answer(r.Context(), c, e)
		if err != nil {
			status = s.fail(w, c, err)
			return
		}
		if stream, ok := reply.(stream); ok {
			stream(w)
			return
		}
		s.reply(w, c, reply)
	})
}

// head sets what every answer carries, refusals too.
func (s *Server) head(w http.ResponseWriter, c *call) {
	w.Header().Set("Cache-Control", "no-store")
	select {
	case <-s.stop:
		// net/http tells the HTTP/2 connections that it knows to end; one whose handshake came later
		// would go on as long as its client asks, and the server with it.
		w.Header().Set("Connection", "close")
	default:
	}
	w.Header().Set(api.HeaderRequestID, c.id)
	w.Header().Set(api.HeaderNonce, s.nonces.Issue())
}

// stream is a reply that writes itself.
type stream func(w http.ResponseWriter)

func (s *Server) answer(ctx context.Context, c *call, e endpoint) (any, error) {
	if err := s.limits.address(c.source); err != nil {
		return nil, err
	}
	// net/http takes HEAD for GET. What is for everybody may be asked for so; an answer that is an event, and a
	// stream, has no head without its body.
	if c.request.Method == http.MethodHead && e.auth != authNone {
		return nil, notAllowed(c, e.method)
	}
	if err := s.authenticate(ctx, c, e.auth); err != nil {
		return nil, err
	}
	if err := s.limits.subject(c.session); err != nil {
		return nil, err
	}
	return e.handle(ctx, c)
}

// reply writes a JSON answer with the latest checkpoint (R9).
func (s *Server) reply(w http.ResponseWriter, c *call, v any) {
	s.stamp(w)
	if r, ok := v.(api.Revealer); ok {
		v = r.Wire()
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.Logger.Debug("answer not delivered", "request", c.id, "error", err)
	}
}

func (s *Server) stamp(w http.ResponseWriter) {
	checkpoint, _ := s.Log.Head()
	w.Header().Set(api.HeaderCheckpoint, base64.StdEncoding.EncodeToString(checkpoint))
}

// fail writes a problem (RFC 9457) and returns its status. The cause goes to our own log only.
func (s *Server) fail(w http.ResponseWriter, c *call, err error) int {
	p := *asProblem(err)
	p.RequestID, p.Status = c.id, p.Kind.Status()
	if p.Cause != nil || p.Status >= http.StatusInternalServerError {
		s.Logger.Log(c.request.Context(), s.levelOf(c.request, err), "request failed", "request", c.id, "route", c.request.Pattern, "kind", string(p.Kind), "detail", p.Detail, "cause", fmt.Sprint(p.Cause))
	}
	s.stamp(w)
	if p.RetrySecs > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(p.RetrySecs))
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `DPoP error="`+string(p.Kind)+`", algs="ES256"`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
	if s.hungUp(c.request, err) {
		return statusHungUp
	}
	return p.Status
}

// decode reads a JSON body strictly.
func decode(c *call, v any) error {
	d := json.NewDecoder(c.request.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return api.Errorf(api.KindInvalid, "the request's body is not the JSON that this endpoint takes").WithCause(cutOff(c.request, err))
	}
	if _, err := d.Token(); err != io.EOF {
		return api.Errorf(api.KindInvalid, "the request's body goes on after its JSON")
	}
	return nil
}
