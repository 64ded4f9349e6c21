package awssts

import (
	"maps"
	"regexp"
	"strings"
)

// tokenKinds are AWS's codes for what is wrong with a token or with its issuer. ExpiredToken is of the
// broker's own credentials in any other call.
var tokenKinds = withKinds(map[string]Kind{
	"InvalidIdentityToken":           KindToken,
	"InvalidIdentityTokenException":  KindToken,
	"ExpiredToken":                   KindToken,
	"ExpiredTokenException":          KindToken,
	"IDPRejectedClaim":               KindToken,
	"IDPRejectedClaimException":      KindToken,
	"IDPCommunicationError":          KindIssuer,
	"IDPCommunicationErrorException": KindIssuer,
})

// withKinds adds what the codes of kinds mean where more does not say otherwise.
func withKinds(more map[string]Kind) map[string]Kind {
	out := maps.Clone(kinds)
	maps.Copy(out, more)
	return out
}

// kinds returns what AWS's codes mean for this call.
func (c Call) kinds() map[string]Kind {
	if c.Web != nil {
		return tokenKinds
	}
	return kinds
}

// tokenForm is what looks like a JWT, or like the beginning of one.
var tokenForm = regexp.MustCompile(`eyJ[\w-]*(\.[\w-]*)*`)

// withoutTokens takes tokens out of a message of AWS, should it quote one.
func withoutTokens(message string) string {
	return tokenForm.ReplaceAllString(message, "[token]")
}

// tokenHint says what to look at when AWS does not take the token. AWS's texts are documented nowhere,
// so what they say only chooses the first thing to look at.
func (c Call) tokenHint(code, message string) string {
	var (
		id       = c.Web
		provider = "the IAM OIDC provider of " + id.Issuer + " in account " + account(c.RoleARN)
		says     = strings.ToLower(message)
	)
	switch {
	case strings.HasPrefix(code, "ExpiredToken"):
		return "check the clock of the broker's host: its tokens live " + short(TokenLife)
	case strings.HasPrefix(code, "IDPCommunicationError"):
		return "AWS must be able to fetch " + id.Issuer + "/.well-known/openid-configuration and the keys that it names; run: segad issuer publish, where something else than the broker serves them"
	case strings.Contains(says, "provider found"):
		return "create " + provider + ", with the audience " + id.Audience
	case strings.Contains(says, "audience"):
		return "add the audience " + id.Audience + " to " + provider
	case strings.Contains(says, "key"):
		return "the key that signs must stand in " + id.Issuer + "/.well-known/jwks.json for an hour before it signs; run: segad issuer list"
	}
	return "check " + provider + ", its audience " + id.Audience + ", and that AWS can fetch " + id.Issuer + "/.well-known/jwks.json with the key that signs"
}

// deniedHint says what the trust policy lacks.
func (id WebIdentity) deniedHint(role, missing string) string {
	if missing == "" || strings.EqualFold(missing, "sts:AssumeRoleWithWebIdentity") {
		missing = "sts:AssumeRoleWithWebIdentity, sts:SetSourceIdentity and sts:TagSession"
	}
	host := strings.TrimPrefix(id.Issuer, "https://")
	return "let the trust policy of " + role + " allow " + missing + " to the federated principal oidc-provider/" + host +
		", where " + host + ":aud is " + id.Audience + " and " + host + ":sub, if it is asked for, fits " + id.Subject
}
