package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"sega/broker/api"
	"sega/idp"
	"sega/keychain"
)

// TestExitCodes is the contract of docs/errors.md.
func TestExitCodes(t *testing.T) {
	kinds := map[api.Kind]int{
		api.KindInvalid: 1, api.KindUnauthenticated: 4, api.KindNonce: 1, api.KindDenied: 3, api.KindMFA: 3, api.KindStepUp: 4, api.KindRevoked: 6,
		api.KindPending: 1, api.KindSlowDown: 1, api.KindExpired: 1, api.KindNotFound: 1, api.KindConflict: 1, api.KindRateLimited: 1,
		api.KindUpstream: 1, api.KindUnreachable: 7, api.KindUnavailable: 1, api.KindInternal: 1, "of a later version": 1,
	}
	for kind, want := range kinds {
		for how, err := range map[string]error{"plain": api.Errorf(kind, "x"), "wrapped": fmt.Errorf("op: %w", api.Errorf(kind, "x")),
			"joined": errors.Join(errPlain, api.Errorf(kind, "x")), "hinted": withHint(api.Errorf(kind, "x"), "h")} {
			if got := exitCode(err); got != want {
				t.Errorf("%s, %s: %d, want %d", kind, how, got, want)
			}
		}
	}
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"nothing":                          {nil, 0},
		"anything":                         {errPlain, 1},
		"usage":                            {usagef("x"), 2},
		"wrapped usage":                    {fmt.Errorf("x: %w", usagef("x")), 2},
		"a child's code":                   {childError(42), 42},
		"a child that ended well":          {childError(0), 0},
		"a child that a signal ended":      {childError(137), 137},
		"not logged in":                    {errNotLoggedIn, 4},
		"not logged in, wrapped":           {fmt.Errorf("x: %w", errNotLoggedIn), 4},
		"another broker":                   {errOtherBroker, 4},
		"the key of the store is gone":     {fmt.Errorf("x: %w", keychain.ErrNoKey), 4},
		"the refresh token is used up":     {fmt.Errorf("x: %w", idp.ErrInvalidGrant), 4},
		"cancelled":                        {errCancelled, 5},
		"interrupted":                      {fmt.Errorf("x: %w", context.Canceled), 5},
		"the provider does not answer":     {fmt.Errorf("x: %w", idp.ErrUnreachable), 7},
		"the provider refuses":             {fmt.Errorf("x: %w", idp.ErrDenied), 3},
		"the provider's factor is weaker":  {fmt.Errorf("x: %w", idp.ErrACR), 3},
		"cancelled while the IdP is asked": {fmt.Errorf("%w: %w", idp.ErrUnreachable, context.Canceled), 5},
		"the store is locked":              {fmt.Errorf("%w: x", keychain.ErrUnavailable), 1},
		"a kind that is given":             {withKind(kindAgent, errPlain), 1},
		"a kind where there is one":        {withKind(kindConfig, fmt.Errorf("x: %w", idp.ErrUnreachable)), 7},
	} {
		t.Run(name, func(t *testing.T) {
			if got := exitCode(c.err); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	denied := api.Errorf(api.KindDenied, "no").WithHint("run: sega roles")
	denied.PolicyIDs, denied.RequestID = []string{"p1", "p2"}, "req_1"
	internal := api.Errorf(api.KindInternal, "internal error").WithCause(errors.New("canary"))
	internal.RequestID = "req_2"
	hostile := api.Errorf(api.KindDenied, "a\x1b[2Jb").WithHint("c\rd")
	hostile.PolicyIDs = []string{"e\x07"}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"plain":          {errPlain, "sega: plain\n"},
		"a hostile hint": {withHint(errPlain, "run: %s", "x\x1b[2J"), "sega: plain\n  run: x\\u001b[2J\n"},
		"a hint":         {withHint(errPlain, "run: %s", "x"), "sega: plain\n  run: x\n"},
		"usage":          {usagef("ROLE is missing"), "sega: ROLE is missing\n  run: sega --help\n"},
		"denied":         {denied, "sega: no\n  policy: p1, p2\n  run: sega roles\n"},
		"internal":       {internal, "sega: internal error\n  request: req_2\n"},
		"not logged in":  {errNotLoggedIn, "sega: you are not logged in\n  run: sega login\n"},
		"a child":        {childError(3), ""},
		"hostile":        {hostile, "sega: a\\u001b[2Jb\n  policy: e\\u0007\n  c\\u000dd\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := explained(c.err); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain grüße 世界 🙂": "plain grüße 世界 🙂", "line\n\ttab": "line\n\ttab", "\x1b[31m": `\u001b[31m`, "\x00\x07\x08\x0b\x0c\r\x7f": `\u0000\u0007\u0008\u000b\u000c\u000d\u007f`,
		"\u0085\u009b": `\u0085\u009b`, "\u202eevil\u202c": `\u202eevil\u202c`, "\u2066x\u2069": `\u2066x\u2069`, "\u2028\u2029": `\u2028\u2029`,
		"\u200e\u200f\u061c": `\u200e\u200f\u061c`, "\xff\xfe": "\ufffd\ufffd",
	} {
		if got := escape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b[2J\u202e\u009b\xff\n\t")
	f.Fuzz(func(t *testing.T, s string) {
		got := escape(s)
		for _, r := range got {
			if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
				t.Fatalf("%q: %q passes", s, r)
			}
		}
		if escape(got) != got {
			t.Errorf("%q is escaped twice", s)
		}
	})
}

// TestTable: what stands in a cell makes neither rows nor columns of its own.
func TestTable(t *testing.T) {
	var b strings.Builder
	if err := table(&b, []string{"A", "B"}, [][]string{{"x\ny", "1\t2"}, {"\x1b[2J\v", "grüße"}}); err != nil {
		t.Fatal(err)
	}
	want := "A                B\n" + `x\ny             1\t2` + "\n" + `\u001b[2J\u000b  grüße` + "\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
