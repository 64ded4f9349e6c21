package endpoint

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"sega/broker/api"
	"sega/keychain/secret"
)

const (
	tokenPrefix  = "sega_ep_" // scannable (style)
	tokenBytes   = 32
	pathBytes    = 16
	childPrefix  = "/child/"
	rolePrefix   = "/role/"
	defaultPaths = 1024
	defaultWait  = 50 * time.Second // SDKs wait for less; their next attempt finds what this one got
	maxRole      = 256              // bytes of a role's name
)

// Source gives a role's credentials; it decides about caching and asking. ctx ends when the asking
// SDK has gone, which is after a second or two with some: work for others goes on without it.
// An error that is an api.Problem is told to the SDK by its kind, any other as "internal".
type Source interface {
	Credentials(ctx context.Context, r api.CredentialsRequest) (api.Credentials, error)
}

// Config says what a Server gives.
type Config struct {
	Source   Source
	MaxPaths int           // at once; 0: 1,024
	Wait     time.Duration // for the Source; 0: 50 s
}

// ErrFull is returned where there are as many paths as a Server keeps.
var ErrFull = errors.New("there are too many endpoints at once")

// Server is an http.Handler that speaks the container credentials protocol. Each path has a token of
// its own. It answers only requests that come from this machine and name the address that they came
// to (see guard). Source: AWS SDKs and tools reference, "Container credential provider".
type Server struct {
	source   Source
	maxPaths int
	wait     time.Duration

	mu     sync.Mutex
	grants map[string]*grant // by path; that of all roles is rolePrefix
}

// grant is one path, or all below rolePrefix, and the token that opens it.
type grant struct {
	path    string
	token   secret.Secret
	request func(role string) (api.CredentialsRequest, bool)
}

// New checks the configuration.
func New(c Config) (*Server, error) {
	if c.Source == nil {
		return nil, errors.New("endpoint: no source")
	}
	if c.MaxPaths == 0 {
		c.MaxPaths = defaultPaths
	}
	if c.Wait == 0 {
		c.Wait = defaultWait
	}
	if c.MaxPaths < 0 || c.Wait < 0 {
		return nil, errors.New("endpoint: a limit is negative")
	}
	return &Server{source: c.Source, maxPaths: c.MaxPaths, wait: c.Wait, grants: map[string]*grant{}}, nil
}

// Add opens a path for one child: a GET of it with the token as its header Authorization answers with
// the credentials that r asks for. It fails where there are too many paths.
func (s *Server) Add(r api.CredentialsRequest) (path string, token secret.Secret, err error) {
	path = childPrefix + random(pathBytes)
	token, err = s.open(path, func(string) (api.CredentialsRequest, bool) { return r, true })
	return path, token, err
}

// AddRoles opens /role/NAME for every name that request takes, under one token. A second call makes
// the first one's token void.
func (s *Server) AddRoles(request func(role string) (api.CredentialsRequest, bool)) (token secret.Secret, err error) {
	return s.open(rolePrefix, request)
}

// RolePath is the path of a role on a Server with AddRoles.
func RolePath(role string) string { return rolePrefix + escapeSegment(role) }

// Drop makes a path's token void; one that is unknown is nothing.
func (s *Server) Drop(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.grants, path)
}

// Forget makes every token void. What is being answered is not given either.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.grants)
}

func (s *Server) open(path string, request func(string) (api.CredentialsRequest, bool)) (secret.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.grants[path]; !there && len(s.grants) >= s.maxPaths {
		return secret.Secret{}, fmt.Errorf("%w: %d", ErrFull, s.maxPaths)
	}
	g := &grant{path: path, token: secret.FromString(tokenPrefix + random(tokenBytes)), request: request}
	s.grants[path] = g
	return g.token, nil
}

// find returns the grant of a request's path and the role that it names, "" for a child's.
func (s *Server) find(r *http.Request) (g *grant, role string) {
	path := r.URL.EscapedPath()
	key := path
	if rest, below := strings.CutPrefix(path, rolePrefix); below {
		name, ok := unescapeSegment(rest)
		if !ok {
			return nil, ""
		}
		key, role = rolePrefix, name
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grants[key], role
}

// stands reports whether a grant has not been dropped meanwhile.
func (s *Server) stands(g *grant) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grants[g.path] == g
}

// ServeHTTP answers one request of an SDK.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if refusal := guard(r); refusal != nil {
		writeProblem(w, refusal)
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		writeProblem(w, api.Errorf(api.KindMethod, "credentials are got by GET"))
		return
	}
	g, role := s.find(r)
	if !opens(g, r.Header.Values("Authorization")) {
		writeProblem(w, api.Errorf(api.KindUnauthenticated, "the token opens nothing here: sega that gave it has ended, or the login has"))
		return
	}
	ask, ok := g.request(role)
	if !ok {
		writeProblem(w, api.Errorf(api.KindNotFound, "there is no such role"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.wait)
	defer cancel()
	creds, err := s.source.Credentials(ctx, ask)
	if err == nil && !s.stands(g) {
		err = api.Errorf(api.KindRevoked, "the login has ended")
	}
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	body, err := containerForm(creds)
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	writeJSON(w, http.StatusOK, body)
}

// opens compares in constant time, for paths that do not exist too.
func opens(g *grant, shown []string) bool {
	want := secret.FromString(tokenPrefix + strings.Repeat("A", base64.RawURLEncoding.EncodedLen(tokenBytes)))
	if g != nil {
		want = g.token
	}
	return len(shown) == 1 && secret.FromString(shown[0]).Equal(want) && g != nil
}

func random(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// printable reports whether a name from a path may be asked for: what it means, the broker says.
func printable(name string) bool {
	return name != "" && len(name) <= maxRole && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == '/' || !unicode.IsPrint(r) })
}
