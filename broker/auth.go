package broker

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/state"
	"sega/keychain/secret"
)

// authKind says what a request must prove.
type authKind int

const (
	authNone    authKind = iota // nothing
	authProof                   // possession of a key (DPoP without a token)
	authSession                 // a person's session
	authRecent                  // a person's session, which may be one that is remembered (see recent)
	authRenew                   // a person's session that may have expired, to renew it
	authEnded                   // a person's session that may have ended a minute ago, to say what was dropped
	authBastion                 // a bastion's session
	authIndexer                 // an indexer's session
	authHost                    // a host's session
)

// endedTime is how long a session that has ended may say what was dropped.
const endedTime = time.Minute

// authenticate fills in the call's proof and session, or says why not. Refusals are events. What
// costs something that strangers share (the replay cache) comes last: a key of one's own making
// fills no cache but that of requests without a session, and that one by address.
func (s *Server) authenticate(ctx context.Context, c *call, kind authKind) error {
	if kind == authNone {
		return nil
	}
	if err := s.readProof(ctx, c); err != nil {
		return err
	}
	if kind == authProof {
		if err := s.limits.stranger(c.source); err != nil {
			return err
		}
		return s.checkProof(ctx, c, "", s.strangers)
	}
	raw, ok := strings.CutPrefix(c.request.Header.Get("Authorization"), "DPoP ")
	if !ok || raw == "" {
		return s.refuse(ctx, c, api.Errorf(api.KindUnauthenticated, "you are not logged in").WithHint("run: sega login"))
	}
	token := secret.FromString(raw)
	session, err := s.sessionFor(ctx, c, token, kind)
	if err := s.bound(ctx, c, session, err); err != nil {
		return err
	}
	if err := s.checkProof(ctx, c, dpop.ATH(token), s.replay); err != nil {
		return err
	}
	c.session = session
	if problem := s.judgeSession(session, kind); problem != nil {
		return s.refuse(ctx, c, s.whyRevoked(ctx, session, problem))
	}
	return s.checkMachine(ctx, c, kind)
}

// bound holds that a token has a session, and that it is bound to the key that has proven itself. err is that of reading it.
func (s *Server) bound(ctx context.Context, c *call, session state.Session, err error) error {
	switch {
	case errors.Is(err, state.ErrNotFound):
		return s.refuse(ctx, c, api.Errorf(api.KindUnauthenticated, "no such session").WithHint("run: sega login"))
	case err != nil:
		return unavailable(err)
	case session.Thumbprint != c.proof.Thumbprint:
		c.shown = session.ID
		return s.refuse(ctx, c, api.Errorf(api.KindUnauthenticated, "the session is bound to another key").WithHint("run: sega login"))
	}
	return nil
}

// machine returns the kind of machine that a kind of authentication is for, "" for people's.
func (k authKind) machine() string {
	switch k {
	case authBastion:
		return api.MachineBastion
	case authIndexer:
		return api.MachineIndexer
	case authHost:
		return api.MachineHost
	}
	return ""
}

// person reports whether a kind of authentication is for people's sessions.
func (k authKind) person() bool {
	return k == authSession || k == authRecent || k == authRenew || k == authEnded
}

// checkMachine holds the kind that a machine enrolled as against the one that an endpoint is for:
// what an indexer holds opens no host, and what a bastion holds reads no recording (R6).
func (s *Server) checkMachine(ctx context.Context, c *call, kind authKind) error {
	if kind.machine() == "" {
		return nil
	}
	var m state.Machine
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		m, err = state.MachineByID(ctx, tx, c.session.Subject)
		return err
	})
	switch {
	case errors.Is(err, state.ErrNotFound):
		return s.refuse(ctx, c, api.Errorf(api.KindUnauthenticated, "this machine is enrolled no more").WithHint("give it a join_token in the broker's configuration, and restart the broker"))
	case err != nil:
		return unavailable(err)
	case m.Kind != kind.machine():
		return s.refuse(ctx, c, api.Errorf(api.KindDenied, "this endpoint is for a %s, and the machine enrolled as a %s", kind.machine(), m.Kind))
	}
	return nil
}

// readProof parses the DPoP proof, whose signature is by the key that it names.
func (s *Server) readProof(ctx context.Context, c *call) error {
	headers := c.request.Header.Values(api.HeaderProof)
	if len(headers) != 1 {
		problem := api.Errorf(api.KindUnauthenticated, "the request needs exactly one DPoP proof")
		if len(headers) == 0 && c.request.Header.Get("Authorization") == "" {
			return problem // whoever shows nothing attacks nothing
		}
		return s.refuse(ctx, c, problem)
	}
	proof, err := dpop.Parse(headers[0])
	if err != nil {
		return s.refuse(ctx, c, api.Errorf(api.KindUnauthenticated, "bad DPoP proof: %v", err))
	}
	c.proof = proof
	return nil
}

// checkProof holds the proof against this request (RFC 9449 §4.3), and takes it once.
func (s *Server) checkProof(ctx context.Context, c *call, ath string, seen *dpop.Replay) error {
	want := dpop.Want{Method: c.request.Method, HTU: s.Origin + c.request.URL.EscapedPath(), ATH: ath}
	switch err := dpop.Check(c.proof, want, s.nonces, seen); {
	case errors.Is(err, dpop.ErrNonce):
		return api.Errorf(api.KindNonce, "repeat with the nonce of the DPoP-Nonce header")
	case err != nil:
		return s.refuse(ctx, c, api.Errorf(api.KindUnauthenticated, "bad DPoP proof: %v", err))
	}
	return nil
}

func hashToken(token secret.Secret) []byte {
	h := sha256.Sum256(token.Reveal())
	return h[:]
}

// sessionOf reads the session of a token's hash.
func (s *Server) sessionOf(ctx context.Context, hash []byte) (state.Session, error) {
	var session state.Session
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		var err error
		session, err = state.SessionByToken(ctx, tx, hash)
		return err
	})
	return session, err
}

// judgeSession says whether a session that exists may act now.
func (s *Server) judgeSession(session state.Session, kind authKind) *api.Problem {
	now := s.Now()
	if kind == authEnded {
		now = now.Add(-endedTime)
	}
	ended := !session.Ended.IsZero() && (kind != authEnded || now.After(session.Ended))
	login := "run: sega login"
	switch {
	case ended && session.EndedWhy == state.EndedRevoked && session.Kind == state.KindLogin:
		return revokedProblem() // a machine asks for a new session, and is told there where it is blocked
	case ended:
		return api.Errorf(api.KindUnauthenticated, "the session has ended (%s)", session.EndedWhy).WithHint("%s", login)
	case now.After(session.NotAfter), now.After(session.Expires) && kind != authRenew:
		return api.Errorf(api.KindUnauthenticated, "the session has expired").WithHint("%s", login)
	case kind.machine() != "" && session.Kind != state.KindMachine, kind.person() && session.Kind != state.KindLogin:
		return api.Errorf(api.KindDenied, "this endpoint is not for a %s's session", session.Kind)
	}
	return nil
}

// refuse records that a request was refused before it had an identity, and returns the problem.
// The address's budget of refusals bounds what strangers can write into the log; the next event of
// the address says how many were left out. A session's token under another key has a budget of its
// own, which no noise uses up.
func (s *Server) refuse(ctx context.Context, c *call, p *api.Problem) error {
	details := map[string]any{"thumbprint": c.proof.Thumbprint}
	omitted, err := s.limits.refusal(c.source)
	if c.shown != "" {
		omitted, err = s.limits.shown(c.shown)
	}
	if err != nil {
		return err
	}
	if omitted > 0 {
		details["omitted_before"] = omitted
	}
	op := operation{kind: "request.refuse", name: "endpoint" + printable(strings.TrimSuffix(c.request.URL.Path, "/"), 200), loginID: c.shown}
	return s.deny(ctx, s.newEvent(c, op), details, p)
}

// source is the address that the request comes from; X-Forwarded-For counts only from listed
// proxies, and then its last entry that is no such proxy (R13).
func (s *Server) source(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap()
	if !s.proxy(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.proxy(addr); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = next.Unmap()
	}
	return addr
}

func (s *Server) proxy(a netip.Addr) bool {
	for _, p := range s.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
