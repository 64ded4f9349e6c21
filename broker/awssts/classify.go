package awssts

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// classify turns an error of the SDK into an *Error. It takes what it needs out of err and drops
// the rest: an SDK error may hold the security token (signature errors) or the output of a
// credential process.
func classify(err error, w *wire, c Call, caller string) *Error {
	e := &Error{Ambiguous: w.unanswered > 0 || w.accepted > 0, ctx: contextError(err)}
	var api smithy.APIError
	switch {
	case e.ctx == nil && errors.As(err, &api):
		status, id := responseOf(err)
		e.AWSRequestID = oneLine(id, "")
		e.refused(api, status, c, caller)
	case w.attempts == 0 && e.ctx == nil:
		e.Kind, e.Retryable = KindCredentials, true
		e.Detail = "the broker's own AWS credentials could not be loaded"
	case w.accepted > 0 && e.ctx == nil:
		e.Kind, e.Detail = KindAnswer, "STS accepted the call, and its answer cannot be read"
	default:
		e.Kind, e.Retryable = KindUnreachable, true
		e.Detail = transport(err)
	}
	if e.Hint == "" {
		e.Hint = hints[e.Kind]
	}
	switch {
	case e.Kind == KindCredentials && c.Through != "":
		e.Hint = "AWS does not take the session of " + c.Through + ", which it has just made; try again"
	case e.Code == "MalformedPolicyDocument":
		e.Hint = "check the session policy with: aws accessanalyzer validate-policy --policy-type IDENTITY_POLICY --policy-document file://FILE"
	}
	return e
}

// refused fills e from an answer of AWS.
func (e *Error) refused(api smithy.APIError, status int, c Call, caller string) {
	e.Code, e.Kind = oneLine(api.ErrorCode(), ""), c.kinds()[api.ErrorCode()]
	if e.Kind == "" {
		e.Kind = KindRejected
		if status >= 500 {
			e.Kind = KindUnavailable
		}
	}
	e.Retryable = e.Kind == KindThrottled || e.Kind == KindUnavailable || e.Kind == KindIssuer
	e.Detail = "AWS refused the call"
	message := withoutTokens(api.ErrorMessage())
	if quotable[e.Kind] && message != "" {
		e.Detail = oneLine(message, c.ExternalID)
	}
	switch e.Kind {
	case KindDenied:
		e.MissingPermission = missingPermission(message)
		e.Hint = deniedHint(c, e.MissingPermission, message, caller)
	case KindToken, KindIssuer:
		e.Hint = c.tokenHint(api.ErrorCode(), message)
	}
}

// responseOf returns the HTTP status and AWS's request ID of an answer.
func responseOf(err error) (status int, requestID string) {
	var re *awshttp.ResponseError
	if errors.As(err, &re) && re.HTTPResponse() != nil && re.HTTPResponse().Response != nil {
		return re.HTTPStatusCode(), re.ServiceRequestID()
	}
	return http.StatusBadRequest, ""
}

// transport says why no answer came, from the parts of err whose text is known to be harmless.
func transport(err error) string {
	var (
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
		auth x509.UnknownAuthorityError
		op   *net.OpError
		net_ net.Error
	)
	switch ctx := contextError(err); {
	case ctx != nil:
		return "STS did not answer: " + ctx.Error()
	case errors.As(err, &dns):
		return "the name of the STS endpoint does not resolve"
	case errors.As(err, &cert), errors.As(err, &auth):
		return "the certificate of the STS endpoint is not trusted"
	case errors.As(err, &op) && op.Op == "dial":
		return "no connection to the STS endpoint"
	case errors.As(err, &net_) && net_.Timeout():
		return "STS did not answer in time"
	}
	return "the exchange with STS broke off"
}
