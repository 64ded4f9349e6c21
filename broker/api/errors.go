package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Kind is one of the closed set of error kinds; docs/errors.md lists them.
type Kind string

// The kinds. What a client does not know it treats as KindInternal.
const (
	KindInvalid         Kind = "invalid"          // the request is malformed
	KindUnauthenticated Kind = "unauthenticated"  // no session, or not a valid one: log in
	KindNonce           Kind = "use_dpop_nonce"   // repeat with the nonce of the DPoP-Nonce header
	KindDenied          Kind = "denied"           // policy says no
	KindMFA             Kind = "mfa_required"     // the IdP did not vouch for a second factor
	KindStepUp          Kind = "step_up_required" // the factor is too old for this
	KindRevoked         Kind = "revoked"          // the subject was revoked
	KindPending         Kind = "pending"          // device login: not yet approved
	KindSlowDown        Kind = "slow_down"        // device login: poll 5 s slower from now on
	KindExpired         Kind = "expired"          // device login: the code has expired
	KindNotFound        Kind = "not_found"
	KindMethod          Kind = "method_not_allowed" // the endpoint is there, for the methods of the header Allow
	KindConflict        Kind = "conflict"
	KindRateLimited     Kind = "rate_limited"
	KindUpstream        Kind = "upstream"    // AWS or the IdP said no, or something unexpected
	KindUnreachable     Kind = "unreachable" // AWS or the IdP did not answer
	KindUnavailable     Kind = "unavailable" // the broker cannot make events durable, or is not ready
	KindInternal        Kind = "internal"
)

// status is the one mapping of kinds to HTTP.
var status = map[Kind]int{
	KindInvalid: http.StatusBadRequest, KindUnauthenticated: http.StatusUnauthorized, KindNonce: http.StatusUnauthorized,
	KindDenied: http.StatusForbidden, KindMFA: http.StatusForbidden, KindStepUp: http.StatusForbidden, KindRevoked: http.StatusForbidden,
	KindPending: http.StatusBadRequest, KindSlowDown: http.StatusBadRequest, KindExpired: http.StatusBadRequest,
	KindNotFound: http.StatusNotFound, KindMethod: http.StatusMethodNotAllowed, KindConflict: http.StatusConflict, KindRateLimited: http.StatusTooManyRequests,
	KindUpstream: http.StatusBadGateway, KindUnreachable: http.StatusGatewayTimeout,
	KindUnavailable: http.StatusServiceUnavailable, KindInternal: http.StatusInternalServerError,
}

// Status returns the HTTP status of a kind.
func (k Kind) Status() int {
	if s, ok := status[k]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// Problem is an error on the wire (RFC 9457, application/problem+json) and in the client. Detail
// is safe to show to the person who asked; Cause stays in the process that made it.
type Problem struct {
	Type      string   `json:"type"` // "urn:sega:error:" + kind
	Title     string   `json:"title"`
	Status    int      `json:"status"`
	Kind      Kind     `json:"kind"`
	Detail    string   `json:"detail"`
	Hint      string   `json:"hint,omitempty"`       // what to run or do next
	PolicyIDs []string `json:"policy_ids,omitempty"` // what determined a denial
	RequestID string   `json:"request_id,omitempty"`
	RetrySecs int      `json:"retry_after,omitempty"` // seconds

	Cause error `json:"-"`
}

// Errorf makes a Problem. Its text goes to the client: no secret, no internal address.
func Errorf(kind Kind, format string, args ...any) *Problem {
	p := &Problem{Type: "urn:sega:error:" + string(kind), Title: strings.ReplaceAll(string(kind), "_", " "),
		Status: kind.Status(), Kind: kind, Detail: fmt.Sprintf(format, args...)}
	return p
}

// WithHint sets what to do next and returns p.
func (p *Problem) WithHint(format string, args ...any) *Problem {
	p.Hint = fmt.Sprintf(format, args...)
	return p
}

// WithCause keeps err for the log of this process and returns p.
func (p *Problem) WithCause(err error) *Problem {
	p.Cause = err
	return p
}

// Error implements error with what the person may read.
func (p *Problem) Error() string { return p.Detail }

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// AsProblem returns err as a Problem; what is none becomes KindInternal, with err as its cause.
func AsProblem(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return Errorf(KindInternal, "internal error").WithCause(err)
}

// IsKind reports whether err is a Problem of that kind.
func IsKind(err error, kind Kind) bool {
	var p *Problem
	return errors.As(err, &p) && p.Kind == kind
}
