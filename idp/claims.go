package idp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	// Member names compare exactly and may not repeat, which encoding/json does not see to.
	"github.com/go-jose/go-jose/v4/json"
)

const (
	maxToken   = 64 << 10 // bytes; a hundred groups of long names fit
	maxSubject = 255      // OpenID Connect Core §2
)

// claims are the claims of an ID token that we read (OpenID Connect Core §2, §5.1).
type claims struct {
	Issuer        string          `json:"iss"`
	Subject       string          `json:"sub"`
	Audience      stringList      `json:"aud"`
	Party         *string         `json:"azp"`
	Expires       *numericDate    `json:"exp"`
	IssuedAt      *numericDate    `json:"iat"`
	NotBefore     *numericDate    `json:"nbf"`
	AuthTime      *numericDate    `json:"auth_time"`
	Nonce         *string         `json:"nonce"`
	AMR           []string        `json:"amr"`
	ACR           string          `json:"acr"`
	Email         string          `json:"email"`
	EmailVerified looseBool       `json:"email_verified"`
	Name          string          `json:"name"`
	Events        json.RawMessage `json:"events"` // only logout and security event tokens have it

	groups []string // nil where the claim is absent
}

// parseClaims reads a verified payload. groupsClaim names the claim of the groups.
func parseClaims(payload []byte, groupsClaim string) (claims, error) {
	var c claims
	var all map[string]json.RawMessage
	if json.Unmarshal(payload, &c) != nil || json.Unmarshal(payload, &all) != nil || all == nil {
		return claims{}, ErrMalformed
	}
	raw, ok := all[groupsClaim]
	if !ok {
		return c, nil
	}
	var groups []string
	if json.Unmarshal(raw, &groups) != nil || groups == nil {
		return claims{}, fmt.Errorf("%w: its groups are not a list of names", ErrMalformed)
	}
	c.groups = groups
	return c, nil
}

// parseToken reads a compact JWS without trusting it. Only the canonical base64url form passes:
// another spelling of a token verifies as well, but hashes to another replay key.
func parseToken(raw string, algs []jose.SignatureAlgorithm) (*jose.JSONWebSignature, error) {
	if len(raw) > maxToken || !canonical(raw) {
		return nil, ErrMalformed
	}
	jws, err := jose.ParseSignedCompact(raw, algs)
	var algorithm *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &algorithm):
		return nil, ErrAlgorithm
	case err != nil || len(jws.Signatures) != 1:
		return nil, ErrMalformed // the library's text may quote the token
	}
	return jws, checkHeader(jws.Signatures[0].Header)
}

// checkHeader refuses extensions and other types of token (RFC 8725 §3.11). Key material in
// the header (jwk, jku, x5c, x5u) is not looked at.
func checkHeader(h jose.Header) error {
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, ok := h.ExtraHeaders[name]; ok {
			return fmt.Errorf("%w: it uses header extensions", ErrMalformed)
		}
	}
	if typ, ok := h.ExtraHeaders["typ"]; ok {
		if name, isText := typ.(string); !isText || !strings.EqualFold(name, "JWT") {
			return ErrTokenType
		}
	}
	if h.KeyID == "" {
		return ErrKeyUnknown
	}
	return nil
}

// canonical reports whether raw is three parts in the one strict base64url spelling of their bytes.
func canonical(raw string) bool {
	parts := strings.Split(raw, ".")
	for _, part := range parts {
		b, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || base64.RawURLEncoding.EncodeToString(b) != part {
			return false
		}
	}
	return len(parts) == 3
}

// stringList is a string or a list of strings (RFC 7519 §4.1.3).
type stringList []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *stringList) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = stringList{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// looseBool also takes "true" and "false" as text, as some providers send.
type looseBool bool

// UnmarshalJSON implements json.Unmarshaler.
func (l *looseBool) UnmarshalJSON(b []byte) error {
	*l = looseBool(string(b) == "true" || string(b) == `"true"`)
	return nil
}

// numericDate is seconds since the epoch, fractions cut off (RFC 7519 §2).
type numericDate int64

// UnmarshalJSON implements json.Unmarshaler.
func (d *numericDate) UnmarshalJSON(b []byte) error {
	var seconds float64
	if err := json.Unmarshal(b, &seconds); err != nil {
		return err
	}
	if math.IsNaN(seconds) || seconds < 0 || seconds > 1<<40 {
		return errors.New("time out of range")
	}
	*d = numericDate(seconds)
	return nil
}

// time returns the time, zero for an absent claim.
func (d *numericDate) time() time.Time {
	if d == nil {
		return time.Time{}
	}
	return time.Unix(int64(*d), 0).UTC()
}
