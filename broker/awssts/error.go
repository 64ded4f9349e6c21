package awssts

import (
	"context"
	"errors"
	"regexp"
	"strings"
)

// Kind tells what sort of failure it was; the set is closed.
type Kind string

// The kinds.
const (
	KindInvalid      Kind = "invalid"                    // refused here, nothing was sent
	KindDenied       Kind = "denied by AWS"              // a trust policy, a permission policy or an SCP says no
	KindCredentials  Kind = "expired broker credentials" // or revoked, unknown, not loadable: the broker's own
	KindSignature    Kind = "broker signature refused"   // the broker's secret key or its clock is wrong
	KindThrottled    Kind = "throttled"
	KindUnreachable  Kind = "unreachable" // no answer
	KindUnavailable  Kind = "AWS failed"  // an answer of 5xx
	KindRejected     Kind = "rejected"    // AWS finds the request wrong
	KindPackedPolicy Kind = "packed policy too large"
	KindRegion       Kind = "region disabled" // STS is not active there for this account
	KindToken        Kind = "token refused"   // the broker's, as an OIDC issuer
	KindIssuer       Kind = "issuer not reached by AWS"
	KindAnswer       Kind = "answer refused" // AWS's answer is not what was asked for; the credentials were dropped
)

// Error is every error of this package. Its text holds no secret, and what AWS wrote only where it
// cannot quote one. It unwraps to context.Canceled or context.DeadlineExceeded, or to nothing.
type Error struct {
	Code              string // AWS's own, empty where AWS did not answer
	Kind              Kind
	Detail            string // what failed, one line
	MissingPermission string // e.g. "sts:TagSession", where AWS named it
	Hint              string // what to do next
	AWSRequestID      string
	Retryable         bool
	// Ambiguous: AWS may have made a session although nothing came back. Its credentials are lost
	// with the answer, but its event stands in CloudTrail.
	Ambiguous bool

	ctx error
}

// Text is the error without what to do next, for whoever shows the Hint beside it.
func (e *Error) Text() string {
	s := string(e.Kind) + ": " + e.Detail
	if e.Code != "" {
		s += " (" + e.Code + ")"
	}
	if e.Ambiguous {
		s += "; AWS may have made the session all the same"
	}
	return s
}

// Error implements error.
func (e *Error) Error() string {
	s := "awssts: " + e.Text()
	if e.Hint != "" {
		s += "\n" + e.Hint
	}
	return s
}

// Unwrap returns the context's error, if that was the reason.
func (e *Error) Unwrap() error { return e.ctx }

func invalid(detail, hint string) *Error {
	return &Error{Kind: KindInvalid, Detail: detail, Hint: hint}
}

// contextError returns which of the context's errors err is, or nil.
func contextError(err error) error {
	for _, c := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, c) {
			return c
		}
	}
	return nil
}

// kinds maps AWS's error codes. What is missing is KindRejected for 4xx, KindUnavailable for 5xx.
var kinds = map[string]Kind{
	"AccessDenied":                KindDenied,
	"AccessDeniedException":       KindDenied,
	"ExpiredToken":                KindCredentials,
	"ExpiredTokenException":       KindCredentials,
	"InvalidClientTokenId":        KindCredentials,
	"UnrecognizedClientException": KindCredentials,
	"MissingAuthenticationToken":  KindCredentials,
	"OptInRequired":               KindCredentials,
	"SignatureDoesNotMatch":       KindSignature,
	"IncompleteSignature":         KindSignature,
	"RequestExpired":              KindSignature,
	"RequestTimeTooSkewed":        KindSignature,
	"InvalidSignatureException":   KindSignature,
	"Throttling":                  KindThrottled,
	"ThrottlingException":         KindThrottled,
	"ThrottledException":          KindThrottled,
	"RequestLimitExceeded":        KindThrottled,
	"TooManyRequestsException":    KindThrottled,
	"PackedPolicyTooLarge":        KindPackedPolicy,
	"RegionDisabledException":     KindRegion,
	"InternalFailure":             KindUnavailable,
	"ServiceUnavailable":          KindUnavailable,
}

// hints say what to do where the kind alone decides it.
var hints = map[Kind]string{
	KindCredentials:  "look at the credentials of the broker's own role or profile; no session can be made until they are renewed",
	KindSignature:    "check the clock of the broker's host, then the secret key of its own credentials",
	KindThrottled:    "AWS limits AssumeRole for the account; try again in a few seconds",
	KindUnreachable:  "check the way from the broker to the STS endpoint: name, proxy, firewall, certificate",
	KindUnavailable:  "AWS itself failed; try again in a few seconds",
	KindRegion:       "activate STS for this region in the account, or set the broker to another region",
	KindAnswer:       checkAnswer,
	KindPackedPolicy: "shorten the session policy, or pass fewer policy ARNs or a shorter ticket: policies and tags of a session share one packed limit, whatever their plain text's length",
}

const checkAnswer = "check that the endpoint of the broker's configuration is AWS STS; the credentials of the answer were dropped"

// quotable lists the kinds whose message from AWS may be shown. That of a signature error repeats
// the canonical request with its security token, so it is never shown.
var quotable = map[Kind]bool{KindDenied: true, KindRejected: true, KindPackedPolicy: true, KindRegion: true, KindToken: true, KindIssuer: true}

var (
	notAuthorized = regexp.MustCompile(`(?i)not\s+authori[sz]ed\s+to\s+perform:?\s*['"\[]?([a-z0-9-]{1,64}:[a-z0-9*]{1,128})`)
	explicitDeny  = regexp.MustCompile(`(?i)explicit\s+deny(?:\s+in\s+an?\s+([a-z][a-z -]{0,60}))?`)
)

// missingPermission reads the action out of AWS's message; empty if there is none.
func missingPermission(message string) string {
	if m := notAuthorized.FindStringSubmatch(message); m != nil {
		return m[1]
	}
	return ""
}

// deniedHint tells which policy to look at. caller is the broker's ARN, empty if unknown.
func deniedHint(c Call, missing, message, caller string) string {
	owner := "the broker's own policy"
	switch {
	case c.Through != "":
		caller, owner = c.Through, "that role's policies"
	case caller == "":
		caller = "the broker's principal"
	}
	if m := explicitDeny.FindStringSubmatch(message); m != nil {
		where := strings.TrimSpace(m[1])
		if where == "" {
			where = "policy"
		}
		return "an explicit deny in a " + where + " forbids it; no grant in a trust policy can undo that"
	}
	if c.Web != nil {
		return c.Web.deniedHint(c.RoleARN, missing)
	}
	if missing == "" {
		return "the trust policy of " + c.RoleARN + " must allow sts:AssumeRole, sts:SetSourceIdentity and sts:TagSession to " + caller + ", and " + owner + " must allow them on it"
	}
	hint := "let the trust policy of " + c.RoleARN + " allow " + missing + " to " + caller + ", and " + owner + " allow it on the former"
	if strings.EqualFold(missing, "sts:AssumeRole") && c.ExternalID == "" {
		hint += "; if the trust policy asks for an external ID, write it into the role's entry of the broker's configuration"
	}
	return hint
}

// oneLine makes a message of AWS safe to show: no control characters, 300 characters at most, the
// external ID taken out.
func oneLine(message, externalID string) string {
	if externalID != "" {
		message = strings.ReplaceAll(message, externalID, "[external ID]")
	}
	r := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(message, "?")))
	if len(r) > 300 {
		return string(r[:300]) + "…"
	}
	return string(r)
}
