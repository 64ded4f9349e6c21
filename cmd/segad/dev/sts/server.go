package sts

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"sega/keychain/secret"
)

// maxBody bounds a request; AssumeRole's largest is about 100 KiB.
const maxBody = 256 << 10

// Server is the double. Make it with New, run it with Run.
type Server struct {
	cfg     Config
	roles   map[string]Role
	callers map[string]Caller
	http    *http.Server
	keys    *keySets
	closing chan struct{} // closed when Run ends; frees requests that hang
	once    sync.Once

	mu       sync.Mutex
	sessions map[string]issued
	faults   []injected
	calls    []Call
}

// New checks the configuration and loads the state file. It answers nothing before Run.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, roles: map[string]Role{}, callers: map[string]Caller{}, closing: make(chan struct{})}
	for _, r := range cfg.Roles {
		s.roles[r.ARN] = r
	}
	for _, c := range cfg.Callers {
		s.callers[c.AccessKeyID] = c
	}
	if len(s.roles) != len(cfg.Roles) || len(s.callers) != len(cfg.Callers) {
		return nil, errors.New("sts: a role or an access key is configured twice")
	}
	s.keys = newKeySets(cfg.HTTP, cfg.Now)
	var err error
	if s.sessions, err = load(cfg.StateFile); err != nil {
		return nil, err
	}
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn)}
	return s, nil
}

// URL returns the double's address, e.g. "http://127.0.0.1:4566".
func (s *Server) URL() string { return "http://" + s.cfg.Listener.Addr().String() }

// Run serves until ctx ends, then waits up to 5 s for what is under way. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.cfg.Listener) }()
	select {
	case err := <-served:
		s.once.Do(func() { close(s.closing) })
		return err
	case <-ctx.Done():
	}
	s.once.Do(func() { close(s.closing) })
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.http.Shutdown(stop); err != nil {
		_ = s.http.Close()
	}
	<-served
	return nil
}

// serve is the skeleton of every call: read, inject, authenticate, act, record, answer.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	id := uuid.NewString()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		malformed("The request is too large or broke off").write(w, id)
		return
	}
	hit, found := s.takeFault()
	if found && hit.code != FaultDrop {
		s.record(Call{RequestID: id, Code: hit.code})
		s.inject(w, r, hit, id)
		return
	}
	call := Call{RequestID: id}
	answer, bad := s.call(r, body, &call)
	if bad != nil {
		call.Code = bad.code
	}
	s.record(call)
	switch {
	case found:
		panic(http.ErrAbortHandler) // the call was done, its answer is lost
	case bad != nil:
		bad.write(w, id)
	default:
		write(w, http.StatusOK, id, answer)
	}
}

// call authenticates and acts; it fills in what is recorded of the call.
func (s *Server) call(r *http.Request, body []byte, c *Call) (any, *fault) {
	encoded, bad := parametersOf(r, body)
	if bad != nil {
		return nil, bad
	}
	if unsigned(encoded) {
		return s.callUnsigned(r, encoded, c)
	}
	p, keyID, bad := s.authenticate(r, body)
	if bad != nil {
		return nil, bad
	}
	c.Caller, c.AccessKeyID = p.arn, keyID
	f, bad := parseForm(encoded)
	c.Action = f.action
	if bad != nil {
		return nil, bad
	}
	if f.action == "GetCallerIdentity" {
		return identify(p, c.RequestID), nil
	}
	return s.assume(p, f, c)
}

// parametersOf returns the encoded parameters: the body of a POST, the query of a GET.
func parametersOf(r *http.Request, body []byte) (string, *fault) {
	switch {
	case r.URL.Path != "/" && r.URL.Path != "":
		return "", &fault{"InvalidAction", http.StatusNotFound, "STS has no such path"}
	case r.Method == http.MethodGet && len(body) == 0:
		return r.URL.RawQuery, nil
	case r.Method == http.MethodPost && r.URL.RawQuery == "":
		return string(body), nil
	}
	return "", malformed("Send a form by POST, or parameters by GET, and not both")
}

// authenticate finds who signed the request, and checks the signature under that key.
func (s *Server) authenticate(r *http.Request, body []byte) (principal, string, *fault) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return principal{}, "", &fault{"MissingAuthenticationToken", http.StatusForbidden, "Request is missing Authentication Token"}
	}
	if len(values) > 1 || len(r.Header.Values("X-Amz-Security-Token")) > 1 || len(r.Header.Values("X-Amz-Date")) > 1 {
		return principal{}, "", incomplete("A header of the signature is given twice")
	}
	a, bad := parseAuthorization(values[0])
	if bad != nil {
		return principal{}, "", bad
	}
	now := s.cfg.Now()
	if bad := a.checkScope(r, s.cfg.Region, now); bad != nil {
		return principal{}, "", bad
	}
	p, key, expires, bad := s.lookup(a.keyID, secret.FromString(r.Header.Get("X-Amz-Security-Token")))
	if bad != nil {
		return principal{}, "", bad
	}
	if bad := a.verify(r, body, key.Reveal()); bad != nil {
		return principal{}, "", bad
	}
	if !expires.IsZero() && !now.Before(expires) {
		return principal{}, "", &fault{"ExpiredToken", http.StatusForbidden, "The security token included in the request is expired"}
	}
	return p, a.keyID, nil
}

// lookup returns principal, secret key and expiry (zero: none) of an access key. A session's key
// needs its token; a long-lived key must come without one.
func (s *Server) lookup(keyID string, token secret.Secret) (principal, secret.Secret, time.Time, *fault) {
	if c, ok := s.callers[keyID]; ok && token.Empty() {
		return c.principal(), c.SecretAccessKey, time.Time{}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.sessions[keyID]; ok && i.token.Equal(token) {
		return i.principal, i.secret, i.expires, nil
	}
	return principal{}, secret.Secret{}, time.Time{}, &fault{"InvalidClientTokenId", http.StatusForbidden, "The security token included in the request is invalid."}
}

func identify(p principal, requestID string) identityResponse {
	var out identityResponse
	out.Result.Arn, out.Result.UserID, out.Result.Account = p.arn, p.userID, p.account()
	out.Metadata.RequestID = requestID
	return out
}

// assume checks and authorises an AssumeRole, stores the session, and only then answers.
func (s *Server) assume(p principal, f form, c *Call) (any, *fault) {
	a, bad := parseAssume(f)
	c.fill(a)
	if bad != nil {
		return nil, bad
	}
	role, known := s.roles[a.roleARN]
	if bad := a.authorise(p, role, known); bad != nil {
		return nil, bad
	}
	c.fill(a)
	session, bad := s.begin(a, p)
	if bad != nil {
		return nil, bad
	}
	c.Issued = session.keyID
	return assumeResponse{Result: session.result(), Metadata: metadata{RequestID: c.RequestID}}, nil
}

// begin makes a session of what p was authorised for, and stores it.
func (s *Server) begin(a assumption, p principal) (issued, *fault) {
	session := issue(a, p, s.cfg.Now())
	if s.cfg.Life > 0 {
		session.expires = s.cfg.Now().Add(s.cfg.Life).UTC().Truncate(time.Second)
	}
	if err := s.keep(session); err != nil {
		s.cfg.Log.Error("session not stored", "error", err)
		return session, &fault{"InternalFailure", http.StatusInternalServerError, "The request processing has failed because of an unknown error."}
	}
	return session, nil
}

// result is the part of an answer that hands the session out.
func (i issued) result() (r assumeResult) {
	r.SourceIdentity = i.principal.sourceIdentity
	r.AssumedRoleUser.AssumedRoleID, r.AssumedRoleUser.Arn = i.principal.userID, i.principal.arn
	r.Credentials.AccessKeyID, r.Credentials.SecretAccessKey, r.Credentials.SessionToken = i.keyID, string(i.secret.Reveal()), string(i.token.Reveal())
	r.Credentials.Expiration = i.expires.Format(time.RFC3339)
	return r
}

// keep stores a session and drops those that expired long ago.
func (s *Server) keep(session issued) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, old := range s.sessions {
		if s.cfg.Now().After(old.expires.Add(keepExpired)) {
			delete(s.sessions, id)
		}
	}
	s.sessions[session.keyID] = session
	if err := save(s.cfg.StateFile, s.sessions); err != nil {
		delete(s.sessions, session.keyID)
		return err
	}
	return nil
}
