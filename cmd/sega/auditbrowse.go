package main

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/term"

	"sega/broker/api"
	"sega/cmd/sega/browse"
)

// browseAudit opens the browser, where there is a terminal to show it on; it reports whether there is.
func (a *app) browseAudit(ctx context.Context, query string) (opened bool, err error) {
	out, ok := a.out.(*os.File)
	if !ok || a.stdin == nil || !term.IsTerminal(int(out.Fd())) || !term.IsTerminal(int(a.stdin.Fd())) || a.getenv("TERM") == "dumb" {
		return false, nil
	}
	// An interrupt is a key in the browser, and ends a replay and no more: only a request to
	// terminate ends the whole.
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM)
	defer stop()
	events := &eventSource{ctx: ctx, app: *a}
	if _, err := events.session(); err != nil {
		return true, err
	}
	a.store = events.app.store // it may have asked for a passphrase: once is enough
	return true, browse.Run(ctx, browse.Config{Source: events, Query: query, Play: a.playBrowsed, Playable: a.playable, Explain: explainedText, Now: a.now, In: a.stdin, Out: out, Colour: a.getenv("NO_COLOR") == ""})
}

// eventSource reaches the broker for as long as the browser is open, which may be longer than a
// session: one that ends is renewed, and a login made elsewhere is taken up.
type eventSource struct {
	ctx context.Context // of the browser: checkpoints are remembered after a request is cancelled
	app app             // its own: a replay beside it has another

	mu     sync.Mutex
	opened *session
}

// session returns the one that is open, or opens one.
func (e *eventSource) session() (*session, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.opened != nil && e.opened.saved().Session.Expires.Sub(e.app.now()) > renewBefore {
		return e.opened, nil
	}
	own := e.app // the client of a session keeps it
	s, err := own.open(e.ctx)
	if err != nil {
		return nil, err
	}
	e.app.store, e.opened = own.store, s
	return s, nil
}

func (e *eventSource) forget(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.opened == s {
		e.opened = nil
	}
}

// Events implements browse.Source.
func (e *eventSource) Events(ctx context.Context, query url.Values) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		s, err := e.session()
		if err != nil {
			yield(api.Event{}, err)
			return
		}
		for v, err := range s.Events(ctx, query) {
			if api.IsKind(err, api.KindUnauthenticated) {
				e.forget(s)
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

// playBrowsed is `audit play` from the browser. An interrupt ends the replay alone.
func (a *app) playBrowsed(ctx context.Context, id, reason string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	own := *a
	err := own.play(ctx, id, playOptions{reason: reason, speed: 1})
	if errors.Is(err, errCancelled) {
		return context.Canceled
	}
	return err
}

// playable says whether there is an identity that recordings open with: the browser has no flag for one.
func (a *app) playable() error {
	if a.getenv("SEGA_AUDIT_IDENTITY") == "" {
		return usagef("recordings open with a reviewer's identity: leave, set SEGA_AUDIT_IDENTITY to its file, and come back")
	}
	_, err := a.identities("")
	return err
}

// explainedText is explain as text, for a line on the screen.
func explainedText(err error) string {
	var usage usageError
	if errors.As(err, &usage) {
		return usage.text
	}
	var b strings.Builder
	explain(&b, err, "sega audit")
	text := strings.TrimPrefix(b.String(), "sega: ")
	if exitCode(err) == exitLogin && !errors.Is(err, errNotLoggedIn) {
		text += "log in in another terminal, then press F here\n"
	}
	return text
}
