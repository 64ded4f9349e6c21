package signer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.step.sm/crypto/kms/uri"
)

// Schemes of places that are no files.
const (
	schemePKCS11 = "pkcs11"
	schemeAWS    = "awskms"
	schemeAgent  = "sshagentkms"
)

// ErrPlace means that a place is not of the form that its scheme has.
var ErrPlace = errors.New("not the place of a key")

// attributes are those that a place may have. What holds a secret is none.
var attributes = map[string][]string{
	schemePKCS11: {"token", "serial", "slot-id", "module-path", "max-sessions", "id", "object", "pin-source"},
	schemeAWS:    {"region", "profile", "credentials-file", "key-id"},
	schemeAgent:  {"socket"},
}

// IsFile reports whether a place is the path of a file.
func IsFile(place string) bool {
	scheme, _, ok := strings.Cut(place, ":")
	return !ok || strings.ContainsAny(scheme, "/.") || scheme == ""
}

// parse reads a place that is no file. Errors name attributes and quote no values: one may be a PIN.
func parse(place string) (scheme string, u *uri.URI, err error) {
	scheme, _, _ = strings.Cut(place, ":")
	known, ok := attributes[scheme]
	if !ok {
		return "", nil, fmt.Errorf("%w: the scheme is pkcs11:, awskms: or sshagentkms:, or the place is the path of a file", ErrPlace)
	}
	if u, err = uri.Parse(place); err != nil {
		return "", nil, fmt.Errorf("%w: a %s: URI that cannot be read", ErrPlace, scheme)
	}
	given := uri.Values(u)
	if scheme == schemeAgent {
		given = u.Query() // what stands before is the comment of a key
	}
	for name, values := range given {
		if !slices.Contains(known, name) {
			return "", nil, fmt.Errorf("%w: %s: URIs have %s, and not what is there%s", ErrPlace, scheme, strings.Join(known, ", "), secretHint(name))
		}
		if len(values) != 1 || values[0] == "" {
			return "", nil, fmt.Errorf("%w: %s stands twice in the URI, or is empty", ErrPlace, name)
		}
	}
	return scheme, u, nil
}

func secretHint(name string) string {
	if name == "pin-value" || name == "pin-prompt" {
		return "; a PIN stands in a file of mode 0600: ?pin-source=FILE"
	}
	return ""
}
