package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"sega/broker/api"
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

var (
	errNotLoggedIn = withHint(errors.New("you are not logged in"), "run: sega login")
	errCancelled   = errors.New("cancelled")
)

// codes maps the broker's kinds of error to exit codes.
var codes = map[api.Kind]int{
	api.KindDenied: exitDenied, api.KindMFA: exitDenied, api.KindStepUp: exitLogin, api.KindUnauthenticated: exitLogin,
	api.KindRevoked: exitRevoked, api.KindUnreachable: exitUnreachable,
}

// exitCode is the one place that turns an error into an exit code.
func exitCode(err error) int {
	var child childError
	var usage usageError
	var problem *api.Problem
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &child):
		return int(child)
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &problem):
		if code, ok := codes[problem.Kind]; ok {
			return code
		}
		return exitFailed
	case errors.Is(err, errNotLoggedIn), errors.Is(err, keychain.ErrNoKey), errors.Is(err, idp.ErrInvalidGrant):
		return exitLogin
	case errors.Is(err, errCancelled), errors.Is(err, context.Canceled):
		return exitCancelled
	case errors.Is(err, idp.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, idp.ErrDenied), errors.Is(err, idp.ErrACR):
		return exitDenied
	}
	return exitFailed
}

// explain writes what failed of a command and, on lines of its own, what to do next.
func explain(w io.Writer, err error, command string) {
	var child childError
	if errors.As(err, &child) {
		return // the child has said what it had to say
	}
	fmt.Fprintf(w, "sega: %s\n", escape(strings.TrimSpace(err.Error())))
	var problem *api.Problem
	if errors.As(err, &problem) {
		if len(problem.PolicyIDs) > 0 {
			fmt.Fprintf(w, "  policy: %s\n", escapeLine(strings.Join(problem.PolicyIDs, ", ")))
		}
		if problem.Hint != "" {
			fmt.Fprintf(w, "  %s\n", escapeLine(problem.Hint))
		}
		if problem.RequestID != "" && exitCode(err) == exitFailed {
			fmt.Fprintf(w, "  request: %s\n", escapeLine(problem.RequestID))
		}
		return
	}
	var h hinted
	if errors.As(err, &h) {
		fmt.Fprintf(w, "  %s\n", escape(h.hint))
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(w, "  run: %s --help\n", command)
	}
}

// escapeLine is escape for what stands within a line of ours: it must not begin one.
func escapeLine(s string) string {
	return strings.NewReplacer("\n", `\u000a`, "\t", `\u0009`).Replace(escape(s))
}

// escape makes text from elsewhere fit for a terminal: control characters are shown, not obeyed.
func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t':
			b.WriteRune(r)
		case r < ' ' || r == 0x7f || r >= 0x80 && r <= 0x9f || r == 0x2028 || r == 0x2029 || unicode.Is(unicode.Bidi_Control, r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
