package broker

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"sega/broker/api"
	"sega/broker/api/dpop"
)

// nonceLife is how long a DPoP nonce of ours may be used.
const nonceLife = 2 * time.Minute

// replayEntries bounds the proofs that are remembered; a full cache refuses.
const replayEntries = 1 << 20

// Server is the broker.
type Server struct {
	Config
	logVerifier note.Verifier
	voided      int64 // size of our own mark, where the log did not hold it at the start: lost marks up to it are void

	nonces    *dpop.Nonces
	replay    *dpop.Replay
	strangers *dpop.Replay // of requests without a session
	serials   *serials
	recent    recent
	cas       cas
	hub       *hub
	agents    *agents
	run       string // of this process alone: part of every standing
	began     time.Time
	screens   *screens
	krls      krls
	heads     headWatch
	devices   *devices
	limits    *limiter
	redact    *redactor
	metrics   *metrics
	probe     probe
	mux       *http.ServeMux

	standsEvery time.Duration // a constant, but in tests
	writeTime   time.Duration // feedWrite, but in tests

	stop     chan struct{} // closed when the server drains: streams end
	stopOnce sync.Once
	busy     atomic.Int64 // requests under way
	underway sync.Map     // actions of intents whose outcome a request will bring
}

// New checks the configuration, closes what a dead node left open and returns the broker.
func New(ctx context.Context, c Config) (*Server, error) {
	if c.Times == (Times{}) {
		c.Times = DefaultTimes()
	}
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits()
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		Config: c, hub: newHub(c.bastionNames(), c.Now().Add(c.Times.Lease)), agents: newAgents(c.Now), run: rand.Text(), began: c.Now(), screens: newScreens(), devices: newDevices(), limits: newLimiter(c.Limits, c.Now),
		mux: http.NewServeMux(), standsEvery: standsEvery, writeTime: feedWrite, stop: make(chan struct{}),
	}
	if err := s.openProofs(); err != nil {
		return nil, err
	}
	redact, err := newRedactor(c.Redactions)
	if err != nil {
		return nil, err
	}
	s.redact = redact
	s.serials = &serials{log: c.Log, blocks: map[string]*block{}}
	s.metrics = newMetrics(prometheus.NewRegistry(), s)
	if err := s.checkOwnMark(ctx); err != nil {
		return nil, fmt.Errorf("broker: compare the log with what an earlier run has seen: %w", err)
	}
	if err := s.openCAs(ctx); err != nil {
		return nil, fmt.Errorf("broker: keys of the CAs: %w", err)
	}
	if err := s.Settle(ctx); err != nil {
		return nil, fmt.Errorf("broker: close what an earlier run left open: %w", err)
	}
	if err := s.settleLabels(ctx); err != nil {
		return nil, fmt.Errorf("broker: label the sessions of an older version: %w", err)
	}
	allow := map[string][]string{}
	for _, e := range append(s.endpoints(), s.issuerEndpoints()...) {
		s.mux.Handle(e.method+" "+e.route, s.serve(e))
		allow[e.route] = append(allow[e.route], e.method)
	}
	// Beside the others and not among them: a route would otherwise have to be less special than every one
	// that it overlaps with.
	rest := http.NewServeMux()
	for route, methods := range allow {
		rest.Handle(route, s.otherMethod(route, methods))
	}
	rest.Handle("/", s.nowhere())
	s.mux.Handle("/", rest)
	s.mux.HandleFunc("GET "+api.RouteHealth, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	s.mux.HandleFunc("GET "+api.RouteReady, s.ready)
	s.mux.Handle("GET "+api.RouteMetrics, s.metrics.handler())
	return s, nil
}

// nowhere answers what no endpoint answers, within the limits of its address like all else.
func (s *Server) nowhere() http.Handler {
	return s.serve(endpoint{"", "/", authNone, func(_ context.Context, c *call) (any, error) {
		return nil, api.Errorf(api.KindNotFound, "no such endpoint: %s %s", printable(c.request.Method, 20), printable(c.request.URL.Path, 200))
	}})
}

// otherMethod answers requests for an endpoint by a method that it has not (RFC 9110 §15.5.6).
func (s *Server) otherMethod(route string, methods []string) http.Handler {
	return s.serve(endpoint{"", route, authNone, func(_ context.Context, c *call) (any, error) {
		return nil, notAllowed(c, methods...)
	}})
}

func notAllowed(c *call, methods ...string) error {
	allow := strings.Join(methods, ", ")
	c.writer.Header().Set("Allow", allow)
	return api.Errorf(api.KindMethod, "this endpoint takes %s", allow)
}

// clean reports whether a path, as it was sent, is the one address of what it names. net/http would redirect others past
// our limits, and no client of ours follows.
func clean(p string) bool {
	c := path.Clean("/" + p)
	return p == c || c != "/" && p == c+"/"
}

// openProofs makes what DPoP proofs are checked with. The nonces' key is of this process alone:
// after a restart every older proof is void.
func (s *Server) openProofs() (err error) {
	key := make([]byte, 32)
	rand.Read(key)
	if s.nonces, err = dpop.NewNonces(key, nonceLife, s.Now); err != nil {
		return err
	}
	if s.replay, err = dpop.NewReplay(replayEntries, s.nonces.Lifetime(), s.Now); err != nil {
		return err
	}
	if s.strangers, err = dpop.NewReplay(replayEntries, s.nonces.Lifetime(), s.Now); err != nil {
		return err
	}
	s.logVerifier, err = note.NewVerifier(s.LogKey)
	return err
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.busy.Add(1)
	defer s.busy.Add(-1)
	if !clean(r.URL.EscapedPath()) {
		s.nowhere().ServeHTTP(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Busy returns how many requests are under way, streams among them.
func (s *Server) Busy() int64 { return s.busy.Load() }

// Drain ends the streams (feeds, tails) so that the HTTP server can shut down.
func (s *Server) Drain() { s.stopOnce.Do(func() { close(s.stop) }) }

// endpoints is the table of all that the broker answers.
func (s *Server) endpoints() []endpoint {
	return []endpoint{
		{"GET", api.RouteConfiguration, authNone, s.configuration},
		{"POST", api.RouteLogin, authProof, s.login},
		{"POST", api.RouteDevice, authProof, s.deviceStart},
		{"POST", api.RouteDevicePoll, authProof, s.devicePoll},
		{"POST", api.RouteRenew, authRenew, s.renew},
		{"GET", api.RouteSession, authSession, s.status},
		{"GET", api.RouteSessionFeed, authSession, s.sessionFeed},
		{"POST", api.RouteSessionAck, authEnded, s.sessionAck},
		{"POST", api.RouteLogout, authSession, s.logout},
		{"GET", api.RouteRoles, authSession, s.roles},
		{"POST", api.RouteCredentials, authSession, s.credentials},
		{"POST", api.RouteReuse, authSession, s.reuse},
		{"POST", api.RouteConsole, authSession, s.console},
		{"GET", api.RouteHosts, authSession, s.hosts},
		{"POST", api.RouteCertificate, authRecent, s.certificate},
		{"GET", api.RouteKRL, authNone, s.krl},
		{"GET", api.RouteKRLSig, authNone, s.krlSig},
		{"POST", api.RouteKeys, authSession, s.registerKey},
		{"GET", api.RouteKeys, authSession, s.keys},
		{"GET", api.RouteSessions, authSession, s.sessions},
		{"POST", api.RouteRevoke, authSession, s.revoke},
		{"POST", api.RouteUnblock, authSession, s.unblock},
		{"GET", api.RouteEvents, authSession, s.bounded(s.events)},
		{"GET", api.RouteCount, authSession, s.bounded(s.count)},
		{"GET", api.RouteLog, authSession, s.bounded(s.logRows)},
		{"GET", api.RouteCheckpoint, authNone, s.checkpoint},
		{"GET", api.RouteRollups, authSession, s.bounded(s.rollups)},
		{"GET", api.RouteProof, authSession, s.proof},
		{"GET", api.RouteConsistency, authNone, s.consistency},
		{"GET", api.RouteTile, authNone, s.tile},
		{"GET", routeEntries, authSession, s.entries},
		{"GET", api.RouteRecording, authSession, s.recording},
		{"POST", api.RouteEnroll, authProof, s.enroll},
		{"POST", api.RouteMachine, authProof, s.machineSession},
		{"GET", api.RouteFeed, authBastion, s.feed},
		{"POST", api.RouteAck, authBastion, s.ack},
		{"POST", api.RouteHop, authBastion, s.hop},
		{"POST", api.RouteFront, authBastion, s.front},
		{"POST", api.RouteReport, authBastion, s.report},
		{"POST", api.RouteChannel, authBastion, s.channel},
		{"POST", api.RouteHostToken, authSession, s.hostToken},
		{"POST", api.RouteHostEnroll, authProof, s.enrollHost},
		{"GET", api.RouteHostBundle, authHost, s.hostBundle},
		{"POST", api.RouteHostCertificate, authHost, s.hostCertificate},
		{"GET", api.RouteHostKeys, authHost, s.hostKeys},
		{"POST", api.RouteHostAudit, authHost, s.hostAudit},
		{"GET", api.RouteIndexSessions, authIndexer, s.indexSessions},
		{"GET", api.RouteIndexRecording, authIndexer, s.indexRecording},
		{"GET", api.RouteIndexSearches, authIndexer, s.indexSearches},
		{"POST", api.RouteIndexHits, authIndexer, s.indexHits},
	}
}
