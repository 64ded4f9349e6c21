package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
)

// explain writes what failed of a command and, on lines of its own, what to do next.
func explain(w io.Writer, err error, command string) {
	var child childError
	if errors.As(err, &child) {
		return // the child has said what it had to say
	}
	f := explanationOf(err, command)
	fmt.Fprintf(w, "sega: %s\n", escape(f.Detail))
	if len(f.PolicyIDs) > 0 {
		fmt.Fprintf(w, "  policy: %s\n", escapeLine(strings.Join(f.PolicyIDs, ", ")))
	}
	for line := range strings.Lines(f.Hint) {
		fmt.Fprintf(w, "  %s\n", escapeLine(strings.TrimSuffix(line, "\n")))
	}
	if f.RequestID != "" && f.Exit == exitFailed {
		fmt.Fprintf(w, "  request: %s\n", escapeLine(f.RequestID))
	}
}

// explainJSON is explain for programs: one object on one line.
func explainJSON(w io.Writer, err error, command string) {
	var child childError
	if errors.As(err, &child) {
		return
	}
	_ = writeJSON(w, explanationOf(err, command)) // where stderr is gone, the exit code is left
}

// errorsAsJSON says whether errors are told as JSON: by --json, or by SEGA_ERRORS=json, for what runs
// sega without writing its command line, such as an SDK with credential_process. A mistake in the
// command line ends its reading, so that --json behind it is looked for by hand.
func (a *app) errorsAsJSON(args []string, err error) bool {
	if a.json || a.getenv("SEGA_ERRORS") == "json" {
		return true
	}
	var usage usageError
	if dash := slices.Index(args, "--"); dash >= 0 {
		args = args[:dash]
	}
	return errors.As(err, &usage) && slices.Contains(args, "--json")
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
