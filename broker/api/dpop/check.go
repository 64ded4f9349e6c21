package dpop

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Refusals of Check. A caller answers ErrNonce with KindNonce and a fresh nonce, the others with
// KindUnauthenticated; their text is safe to show.
var (
	ErrNonce    = errors.New("the DPoP proof needs a nonce that is still valid")
	ErrMismatch = errors.New("the DPoP proof belongs to something else")
	ErrKey      = errors.New("the DPoP proof was made with another key than the session's")
	ErrReplay   = errors.New("the DPoP proof was used before, or too many are in use")
)

// Want is what a proof must fit.
type Want struct {
	Method     string
	HTU        string // the broker's configured origin and the request's path
	ATH        string // of the presented token; "" where none is presented, and then the proof must have none
	Thumbprint string // of the session's key; "" at login, where any key is right
}

// Check says whether a parsed proof fits the request, now and for the first time. The replay
// cache is asked last, so that a proof which fails for another reason takes no place in it.
func Check(p Proof, want Want, n *Nonces, r *Replay) error {
	if p.Method != want.Method {
		return fmt.Errorf("%w: another method", ErrMismatch)
	}
	if err := sameTarget(p.HTU, want.HTU); err != nil {
		return err
	}
	if !equal(p.ATH, want.ATH) {
		return fmt.Errorf("%w: another token", ErrMismatch)
	}
	if want.Thumbprint != "" && !equal(p.Thumbprint, want.Thumbprint) {
		return ErrKey
	}
	if !n.Valid(p.Nonce) {
		return ErrNonce
	}
	if r.Seen(p.Thumbprint, p.JTI) {
		return ErrReplay
	}
	return nil
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func sameTarget(got, want string) error {
	g, err := normalise(got)
	if err != nil {
		return fmt.Errorf("%w: htu is no address", ErrMismatch)
	}
	w, err := normalise(want)
	if err != nil {
		return fmt.Errorf("%w: the wanted address is none", ErrMismatch)
	}
	if g != w {
		return fmt.Errorf("%w: another address", ErrMismatch)
	}
	return nil
}

// normalise brings an http(s) URL to the form in which two are compared: scheme and host in lower
// case, the default port dropped, an empty path as "/", no query and no fragment (RFC 9449 §4.3, RFC
// 3986 §6.2.2 and §6.2.3). The path is compared as it was escaped. Errors do not quote the URL.
func normalise(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Opaque != "" || u.User != nil {
		return "", errors.New("not an absolute URL without user")
	}
	scheme := strings.ToLower(u.Scheme)
	if scheme != "https" && scheme != "http" {
		return "", errors.New("not an http or https URL")
	}
	host := strings.ToLower(u.Hostname())
	if strings.ContainsAny(host, "%/?#@[]\\") {
		return "", errors.New("not a plain host")
	}
	port := u.Port()
	if port == defaultPort(scheme) {
		port = ""
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return scheme + "://" + authority(host, port) + path, nil
}

func authority(host, port string) string {
	if port != "" {
		return net.JoinHostPort(host, port)
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}
