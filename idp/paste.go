package idp

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"unicode"
)

// maxPaste is the longest address taken, in bytes.
const maxPaste = 16 << 10

// Paste logs a person in on a machine without a browser: show gets the address to open elsewhere;
// there the browser ends at an address of 127.0.0.1 that does not load, and the person pastes that
// address (whole, or its query alone), which read returns. The redirect names the first port of
// l other than 0. Errors: ErrPaste, ErrState, and those of Browser.
func (p *Provider) Paste(ctx context.Context, l Login, show func(url string) error, read func(context.Context) (string, error)) (Tokens, error) {
	l, err := l.normal()
	if err != nil {
		return Tokens{}, err
	}
	port, err := firstPort(l.Ports)
	if err != nil {
		return Tokens{}, err
	}
	a := newAttempt(l, port)
	if err := show(p.address(a)); err != nil {
		return Tokens{}, fmt.Errorf("show the address: %w", err)
	}
	pasted, err := read(ctx)
	if err != nil {
		return Tokens{}, fmt.Errorf("read the pasted address: %w", err)
	}
	q, err := parsePasted(pasted, a.redirect)
	if err != nil {
		return Tokens{}, err
	}
	code, err := p.answer(a, q)
	if err != nil {
		return Tokens{}, err
	}
	return p.redeem(ctx, a, code)
}

func firstPort(ports []int) (int, error) {
	for _, port := range ports {
		if port != 0 {
			return port, nil
		}
	}
	return 0, fmt.Errorf("%w: a login by pasting needs a fixed port", ErrConfig)
}

// parsePasted returns the parameters of a pasted address: the whole URL, without its scheme as
// some address bars copy it, or its query alone with or without the question mark. Quotes around
// it and line breaks that a terminal put into it are dropped. The error never quotes the input,
// which may hold a live code.
func parsePasted(input, redirect string) (url.Values, error) {
	if len(input) > maxPaste {
		return nil, ErrPaste
	}
	text := strings.Trim(strings.Map(withoutSpace, input), "\"'<>`")
	base, query, found := strings.Cut(text, "?")
	if !found {
		base, query = "", text
	}
	if base != "" && base != redirect && base != strings.TrimPrefix(redirect, "http://") {
		return nil, ErrPaste
	}
	query, _, _ = strings.Cut(query, "#")
	q, err := url.ParseQuery(query)
	if err != nil || !q.Has("state") || !q.Has("code") && !q.Has("error") {
		return nil, ErrPaste
	}
	return q, nil
}

// withoutSpace drops what no URL contains.
func withoutSpace(r rune) rune {
	if unicode.IsSpace(r) || unicode.IsControl(r) || r == '\u200b' || r == '\ufeff' {
		return -1
	}
	return r
}
