package sts

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

const withWebIdentity = "AssumeRoleWithWebIdentity"

// Federation is what a role's trust policy says of a provider: Federated principal, and the conditions
// that StringEquals its aud and StringLike its sub.
type Federation struct {
	Provider string // ARN
	Audience string
	Subject  string // with * and ?; "*" where there is no such condition
}

func (f Federation) check() error {
	if !providerARN.MatchString(f.Provider) || f.Audience == "" || f.Subject == "" {
		return fmt.Errorf("sts: a trust in %q needs the ARN of a provider, an audience and a subject", f.Provider)
	}
	return nil
}

var (
	accountNumber = regexp.MustCompile(`\A[0-9]{12}\z`)
	providerARN   = regexp.MustCompile(`\Aarn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/[\x21-\x7e]+\z`)
	subjectRule   = regexp.MustCompile(`\A[\x21-\x7e]{6,255}\z`)
)

// trusts reports whether the conditions hold for a token's claims.
func (f Federation) trusts(provider string, c claims) bool {
	like := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(f.Subject))
	return f.Provider == provider && f.Audience == string(c.Audience) && regexp.MustCompile(`\A(?s:`+like+`)\z`).MatchString(c.Subject)
}

func invalidToken(msg string) *fault {
	return &fault{"InvalidIdentityToken", http.StatusBadRequest, msg}
}

// unsigned reports whether the parameters ask for the one action that takes no signature.
func unsigned(encoded string) bool {
	v, err := url.ParseQuery(encoded)
	return err == nil && v.Get("Action") == withWebIdentity
}

// callUnsigned is call for AssumeRoleWithWebIdentity. AWS ignores a signature there; the double refuses it,
// because who signs shows credentials that the call does not need.
func (s *Server) callUnsigned(r *http.Request, encoded string, c *Call) (any, *fault) {
	if r.Header.Get("Authorization") != "" || r.Header.Get("X-Amz-Security-Token") != "" {
		return nil, malformed(withWebIdentity + " is not signed")
	}
	f, bad := parseForm(encoded)
	c.Action = f.action
	if bad != nil {
		return nil, bad
	}
	a, bad := parseWebIdentity(f)
	c.fill(a)
	if bad != nil {
		return nil, bad
	}
	t, provider, bad := s.verified(r, f.values["WebIdentityToken"], a)
	if bad != nil {
		return nil, bad
	}
	c.Caller = provider.ARN() + ":" + string(t.claims.Audience) + ":" + t.claims.Subject
	if bad := a.takeClaims(t.claims); bad != nil {
		return nil, bad
	}
	c.fill(a)
	role, known := s.roles[a.roleARN]
	if bad := a.authoriseWeb(provider.ARN(), t.claims, role, known); bad != nil {
		return nil, bad
	}
	session, bad := s.begin(a, principal{})
	if bad != nil {
		return nil, bad
	}
	c.Issued = session.keyID
	out := webResponse{Metadata: metadata{RequestID: c.RequestID}}
	out.Result = webResult{assumeResult: session.result(), Subject: t.claims.Subject, Audience: string(t.claims.Audience), Provider: provider.ARN()}
	return out, nil
}

type webResult struct {
	Subject  string `xml:"SubjectFromWebIdentityToken"`
	Audience string
	Provider string
	assumeResult
}

type webResponse struct {
	XMLName  xml.Name  `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
	Result   webResult `xml:"AssumeRoleWithWebIdentityResult"`
	Metadata metadata  `xml:"ResponseMetadata"`
}

// parseWebIdentity checks every parameter on its own.
func parseWebIdentity(f form) (assumption, *fault) {
	a := assumption{roleARN: f.values["RoleArn"], sessionName: f.values["RoleSessionName"], policy: f.values["Policy"], policyARNs: f.arns}
	if bad := checkNames(f); bad != nil {
		return a, bad
	}
	if bad := a.takeDuration(f); bad != nil {
		return a, bad
	}
	if bad := checkPolicies(f); bad != nil {
		return a, bad
	}
	if n := len(f.values["WebIdentityToken"]); n < 4 || n > 20000 {
		return a, constraint("WebIdentityToken", "Member must have length between 4 and 20000")
	}
	return a, nil
}

// verified finds the provider that a token's iss names in the role's account, and verifies the token by
// what it publishes.
func (s *Server) verified(r *http.Request, raw string, a assumption) (token, Provider, *fault) {
	t, err := parseToken(raw)
	if err != nil {
		return t, Provider{}, invalidToken("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	}
	account := roleARN.FindStringSubmatch(a.roleARN)[1]
	i := slices.IndexFunc(s.cfg.Providers, func(p Provider) bool { return p.Account == account && p.URL == t.claims.Issuer })
	if i < 0 {
		return t, Provider{}, invalidToken("No OpenIDConnect provider found in your account for the token's issuer")
	}
	p := s.cfg.Providers[i]
	keys, err := s.keys.of(r.Context(), p.URL)
	if away := (unreachableError{}); errors.As(err, &away) {
		s.cfg.Log.Warn("provider not reached", "provider", p.URL, "error", err)
		return t, p, &fault{"IDPCommunicationError", http.StatusBadRequest, "The identity provider could not be reached"}
	}
	if err != nil || !slices.ContainsFunc(keys, func(k jwk) bool { return k.verifies(t) }) {
		return t, p, invalidToken("Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements")
	}
	return t, p, t.claims.stand(p, s.cfg.Now())
}

// stand checks whom and when a token is for.
func (c claims) stand(p Provider, now time.Time) *fault {
	switch {
	case c.IssuedAt == nil || c.Expires == nil || c.Subject == "" || c.Audience == "":
		return invalidToken("Missing a required claim")
	case now.Unix() >= *c.Expires:
		return &fault{"ExpiredTokenException", http.StatusBadRequest, fmt.Sprintf("Token expired: current date/time %d must be before the expiration date/time %d", now.Unix(), *c.Expires)}
	case *c.IssuedAt > now.Unix() || c.NotBefore != nil && *c.NotBefore > now.Unix():
		return invalidToken("Token is not valid yet")
	case !slices.Contains(p.Audiences, string(c.Audience)):
		return invalidToken("Incorrect token audience")
	case !subjectRule.MatchString(c.Subject):
		return invalidToken("The token's subject is not 6 to 255 characters")
	}
	return nil
}

// takeClaims takes source identity and tags out of the token, by the grammars of AssumeRole's parameters.
func (a *assumption) takeClaims(c claims) *fault {
	if a.sourceIdentity = c.SourceIdentity; a.sourceIdentity != "" && !nameRule.MatchString(a.sourceIdentity) {
		return invalidToken("The source identity of the token does not satisfy [\\w+=,.@-]{2,64}")
	}
	if c.Tags == nil {
		return nil
	}
	for k, v := range c.Tags.Principal {
		if len(v) != 1 {
			return invalidToken("A session tag of the token has not one value")
		}
		a.tags = append(a.tags, tag{k, v[0]})
	}
	slices.SortFunc(a.tags, func(x, y tag) int { return strings.Compare(x.Key, y.Key) })
	a.transitive = c.Tags.Transitive
	return checkTags(form{tags: a.tags, keys: a.transitive})
}

// authoriseWeb applies the role's trust policy. AWS does not tell a role that is missing from one that
// does not trust.
func (a assumption) authoriseWeb(provider string, c claims, r Role, known bool) *fault {
	refuse := func(action string) *fault { return denied("Not authorized to perform " + action) }
	switch {
	case !known || !slices.ContainsFunc(r.Federated, func(f Federation) bool { return f.trusts(provider, c) }):
		return refuse("sts:" + withWebIdentity)
	case a.sourceIdentity != "" && !r.AllowSourceIdentity:
		return refuse("sts:SetSourceIdentity")
	case len(a.tags) > 0 && !r.AllowTag:
		return refuse("sts:TagSession")
	}
	return a.fitsSession(principal{}, r)
}
