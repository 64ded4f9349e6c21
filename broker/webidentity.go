package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"sega/broker/api"
	"sega/broker/awssts"
)

// WebSubject returns the sub of a person's tokens: "usr_" and 26 characters a-z2-7, a hash of the identity
// (R2), so that no two people have one, whatever an identity provider puts into its sub.
func WebSubject(issuer, subject string) string {
	sum := sha256.Sum256([]byte("sega web identity\n" + strconv.Itoa(len(issuer)) + "\n" + issuer + subject))
	return "usr_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:26])
}

// audienceRule is what fits IAM's list of audiences, and needs no escaping in a trust policy.
var audienceRule = regexp.MustCompile(`\A[A-Za-z0-9_.:/=+@-]{1,255}\z`)

// audience returns the role's own: a token for one role is refused by the trust policy of every other.
func (r Role) audience() string {
	if r.Audience != "" {
		return r.Audience
	}
	return "sega:" + r.Name
}

func (r Role) mode() string {
	if r.Mode == "" {
		return api.ModeAssumeRole
	}
	return r.Mode
}

// validateModes checks how each role's credentials are to be had.
func (c *Config) validateModes() error {
	if c.WebIdentity != nil && c.WebIdentity.url == c.Issuer {
		return errors.New("broker: the issuer of web-identity tokens and the identity provider have one URL")
	}
	taken := map[string]string{}
	for _, r := range c.Roles {
		audience := r.audience()
		switch {
		case r.mode() == api.ModeAssumeRole && r.Audience == "":
			continue
		case r.mode() == api.ModeAssumeRole:
			return fmt.Errorf("broker: role %q has an audience, which is for the mode %s", r.Name, api.ModeWebIdentity)
		case r.mode() != api.ModeWebIdentity:
			return fmt.Errorf("broker: role %q: the mode is %s or %s", r.Name, api.ModeAssumeRole, api.ModeWebIdentity)
		case c.WebIdentity == nil:
			return fmt.Errorf("broker: role %q is in the mode %s, and the section issuer is missing", r.Name, api.ModeWebIdentity)
		case r.ExternalID != "":
			return fmt.Errorf("broker: role %q has an external ID, which AssumeRoleWithWebIdentity does not take", r.Name)
		case !audienceRule.MatchString(audience):
			return fmt.Errorf("broker: role %q: the audience takes 1 to 255 of A-Z a-z 0-9 _ . : / = + @ -", r.Name)
		case taken[audience] != "":
			return fmt.Errorf("broker: roles %q and %q have one audience: a token for the one would open the other", taken[audience], r.Name)
		}
		taken[audience] = r.Name
	}
	return nil
}

// webIdentity is how a token for the role names it and the caller; nil for a role of the other mode.
func (s *Server) webIdentity(c *call, r Role) *awssts.WebIdentity {
	if r.mode() != api.ModeWebIdentity {
		return nil
	}
	return &awssts.WebIdentity{Issuer: s.WebIdentity.url, Audience: r.audience(), Subject: WebSubject(c.session.Issuer, c.session.Subject)}
}

// issuerEndpoints serve the issuer's documents to everybody; without an issuer there are none.
func (s *Server) issuerEndpoints() (out []endpoint) {
	if s.WebIdentity == nil {
		return nil
	}
	for _, doc := range s.WebIdentity.docs {
		out = append(out, endpoint{"GET", doc.Path, authNone, func(context.Context, *call) (any, error) {
			return stream(func(w http.ResponseWriter) { writePublic(w, doc.Body) }), nil
		}})
	}
	return out
}

// writePublic writes JSON that caches may hand to everybody.
func writePublic(w http.ResponseWriter, body []byte) {
	w.Header().Del(api.HeaderNonce)
	w.Header().Del(api.HeaderRequestID)
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(IssuerMaxAge.Seconds())))
	sizeOf(w, body)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}
