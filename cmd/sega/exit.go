package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/client"
	"sega/cmd/sega/agent"
	"sega/idp"
	"sega/keychain"
)

// Exit codes, part of the contract (docs/errors.md).
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitDenied      = 3
	exitLogin       = 4
	exitCancelled   = 5
	exitRevoked     = 6
	exitUnreachable = 7
)

// Kinds of failures that begin on this machine, beside those of the broker (api.Kind). With those
// they are a closed set; docs/errors.md lists both.
const (
	kindUsage          api.Kind = "usage"            // the command line is wrong, or nobody is there to be asked
	kindCancelled      api.Kind = "cancelled"        // by the person
	kindLogin          api.Kind = "login_needed"     // there is no session here, or it cannot be renewed
	kindLocked         api.Kind = "keychain_locked"  // the place of the key cannot be used now
	kindMissing        api.Kind = "keychain_missing" // the key of the stored secrets is gone
	kindDamaged        api.Kind = "keychain_damaged" // the stored secrets cannot be read
	kindBusy           api.Kind = "keychain_busy"    // another process holds the stored secrets
	kindAgent          api.Kind = "agent"            // the agent does not start, or does not answer
	kindUntrusted      api.Kind = "untrusted"        // a certificate that was shown is not trusted
	kindClock          api.Kind = "clock"            // this machine's clock is wrong
	kindForeign        api.Kind = "foreign"          // something else than a sega broker answers
	kindIDPDenied      api.Kind = "idp_denied"       // the identity provider says no
	kindIDPUnreachable api.Kind = "idp_unreachable"  // the identity provider does not answer
	kindIDPInvalid     api.Kind = "idp_invalid"      // the identity provider's answer or configuration does not do
	kindBrowser        api.Kind = "browser"          // the browser's part of a login failed
	kindDisk           api.Kind = "disk"             // full, or to be read only
	kindFile           api.Kind = "file"             // a file cannot be read or written
	kindConfig         api.Kind = "config"           // the environment or a file of sega's is wrong
	kindProgram        api.Kind = "program"          // a program is missing or does not start
	kindAgentLocked    api.Kind = agent.KindLocked   // until somebody unlocks it
	kindAgentKey       api.Kind = agent.KindNeedsKey // a person must be asked for the key of the stored secrets
	kindUnsound        api.Kind = "unsound"          // sega doctor has found what keeps sega from working here
	kindUnverified     api.Kind = "unverified"       // the log, a recording or a bundle is not what it must be
)

// exits maps every kind to its exit code.
var exits = map[api.Kind]int{
	api.KindInvalid: exitFailed, api.KindUnauthenticated: exitLogin, api.KindNonce: exitFailed, api.KindDenied: exitDenied, api.KindMFA: exitDenied,
	api.KindStepUp: exitLogin, api.KindRevoked: exitRevoked, api.KindPending: exitFailed, api.KindSlowDown: exitFailed, api.KindExpired: exitFailed,
	api.KindNotFound: exitFailed, api.KindMethod: exitFailed, api.KindConflict: exitFailed, api.KindRateLimited: exitFailed, api.KindUpstream: exitFailed,
	api.KindUnreachable: exitUnreachable, api.KindUnavailable: exitFailed, api.KindInternal: exitFailed,

	kindUsage: exitUsage, kindCancelled: exitCancelled, kindLogin: exitLogin, kindLocked: exitFailed, kindMissing: exitLogin, kindDamaged: exitFailed,
	kindBusy: exitFailed, kindAgent: exitFailed, kindAgentLocked: exitFailed, kindAgentKey: exitFailed, kindUntrusted: exitUnreachable, kindClock: exitUnreachable, kindForeign: exitUnreachable,
	kindIDPDenied: exitDenied, kindIDPUnreachable: exitUnreachable, kindIDPInvalid: exitFailed, kindBrowser: exitFailed, kindDisk: exitFailed,
	kindFile: exitFailed, kindConfig: exitFailed, kindProgram: exitFailed, kindUnsound: exitFailed, kindUnverified: exitFailed,
}

// usageError is what is wrong with the command line itself.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// childError carries the exit code of a child that ran in sega's place.
type childError int

func (e childError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// hinted is an error with the command that mends it.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }

func withHint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// kinded is an error whose kind nothing in it tells.
type kinded struct {
	error
	kind api.Kind
}

func (e kinded) Unwrap() error { return e.error }

// withKind gives a kind to an error that has none by itself: a certificate that is not trusted, or a
// full disk, stays what it is. Nil stays nil.
func withKind(kind api.Kind, err error) error {
	var problem *api.Problem
	if err == nil || errors.As(err, &problem) || kindOf(err) != api.KindInternal {
		return err
	}
	return kinded{err, kind}
}

var (
	errNotLoggedIn = withHint(errors.New("you are not logged in"), "run: sega login")
	errCancelled   = errors.New("cancelled")
)

// sentinels are what errors of our packages say of their kind, in the order in which they are looked for.
var sentinels = []struct {
	err  error
	kind api.Kind
}{
	{errCancelled, kindCancelled}, {context.Canceled, kindCancelled}, {errNotLoggedIn, kindLogin},
	{keychain.ErrNoKey, kindMissing}, {keychain.ErrCorrupt, kindDamaged}, {keychain.ErrBusy, kindBusy}, {keychain.ErrOtherBackend, kindConfig},
	{keychain.ErrPassphrase, kindLocked}, {keychain.ErrUnavailable, kindLocked},
	{idp.ErrInvalidGrant, kindLogin}, {idp.ErrUnreachable, kindIDPUnreachable}, {idp.ErrDenied, kindIDPDenied}, {idp.ErrACR, kindIDPDenied},
	{idp.ErrPortsBusy, kindBrowser}, {idp.ErrNoAnswer, kindBrowser}, {idp.ErrNoBrowser, kindBrowser},
	{idp.ErrState, kindIDPInvalid}, {idp.ErrCallback, kindIDPInvalid}, {idp.ErrMixUp, kindIDPInvalid}, {idp.ErrPaste, kindIDPInvalid},
	{idp.ErrUnsupported, kindIDPInvalid}, {idp.ErrConfig, kindIDPInvalid}, {idp.ErrNoIDToken, kindIDPInvalid},
	{audit.ErrFork, kindUnverified}, {audit.ErrRollback, kindUnverified}, {audit.ErrCheckpoint, kindUnverified}, {audit.ErrUnproven, kindUnverified}, {audit.ErrBundle, kindUnverified},
	{errNoAgent, kindAgent}, {agent.ErrNotRunning, kindAgent}, {agent.ErrStranger, kindAgent},
	{exec.ErrNotFound, kindProgram}, {exec.ErrDot, kindProgram},
}

// kindOf says what an error is: of a broker's problem its kind, else what lies deepest and says most.
func kindOf(err error) api.Kind {
	var usage usageError
	var explicit kinded
	var start startError
	var problem *api.Problem
	var oauth *idp.OAuthError
	switch {
	case errors.As(err, &usage):
		return kindUsage
	case errors.As(err, &problem):
		return kindOfProblem(problem)
	case errors.As(err, &explicit):
		return explicit.kind
	case errors.As(err, &start):
		return kindProgram
	}
	if !errors.Is(err, errCancelled) && !errors.Is(err, context.Canceled) {
		if kind := kindOfCause(err); kind != "" {
			return kind
		}
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.kind
		}
	}
	if errors.As(err, &oauth) {
		return kindIDPInvalid
	}
	return kindOfSystem(err)
}

// kindOfProblem takes what this machine knows of a problem that its own client made; the broker's have no cause.
func kindOfProblem(p *api.Problem) api.Kind {
	if p.Cause != nil {
		if kind := kindOfCause(p.Cause); kind != "" {
			return kind
		}
		if kind := kindOf(p.Cause); kind == kindUnverified || kind == kindFile {
			return kind
		}
	}
	if _, known := exits[p.Kind]; !known {
		return api.KindInternal
	}
	return p.Kind
}

// kindOfCause looks for what explains a failure wherever it comes from: certificates, the disk, strangers; "" for nothing.
func kindOfCause(err error) api.Kind {
	distrust, ok := client.Distrusted(err)
	switch {
	case ok && distrust.Early:
		return kindClock
	case ok:
		return kindUntrusted
	case errors.Is(err, client.ErrForeign):
		return kindForeign
	case onDisk(err):
		return kindDisk
	}
	return ""
}

// exitCode is the one place that turns an error into an exit code.
func exitCode(err error) int {
	var child childError
	var start startError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &start):
		return start.code()
	case errors.As(err, &child):
		return int(child)
	}
	return exits[kindOf(err)]
}

// explanation is what is told of an error: to people by explain, to programs as JSON. None of it is secret.
type explanation struct {
	Kind      api.Kind `json:"kind"`
	Detail    string   `json:"detail"`                // one line: what failed and why
	Hint      string   `json:"hint,omitempty"`        // what to run or do next, a line each
	Exit      int      `json:"exit"`                  // exit code
	PolicyIDs []string `json:"policy_ids,omitempty"`  // of a denial
	RequestID string   `json:"request_id,omitempty"`  // for the operators, to find it in the broker's log
	RetrySecs int      `json:"retry_after,omitempty"` // seconds
	Command   string   `json:"command"`               // like "sega audit query"
}

// explanationOf is the one place that says what is told of an error.
func explanationOf(err error, command string) explanation {
	f := explanation{Kind: kindOf(err), Exit: exitCode(err), Command: command}
	detail, more, _ := strings.Cut(strings.TrimSpace(detailOf(err, f.Kind)), "\n")
	f.Detail = detail
	var problem *api.Problem
	var h hinted
	if errors.As(err, &problem) {
		f.Hint, f.PolicyIDs, f.RequestID, f.RetrySecs = problem.Hint, problem.PolicyIDs, problem.RequestID, problem.RetrySecs
	}
	if f.Hint == "" && errors.As(err, &h) {
		f.Hint = h.hint
	}
	if f.Hint == "" && more == "" && f.Kind != kindUsage {
		f.Hint = remedy(err, f.Kind)
	}
	f.Hint = joinLines(unindented(more), f.Hint)
	if f.Kind == kindUsage {
		f.Hint = joinLines(f.Hint, "run: "+command+" --help")
	}
	return f
}

// unindented are the hints that stand in an error's own text.
func unindented(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimLeft(lines[i], " \t")
	}
	return strings.Join(lines, "\n")
}

func joinLines(lines ...string) string {
	return strings.Join(slices.DeleteFunc(lines, func(s string) bool { return s == "" }), "\n")
}
