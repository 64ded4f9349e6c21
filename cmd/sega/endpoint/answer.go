package endpoint

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"

	"sega/broker/api"
)

// second is the form of times that every SDK reads: RFC 3339 in UTC, no fractions.
const second = "2006-01-02T15:04:05Z"

var errIncomplete = errors.New("the credentials are incomplete")

// container is what the protocol answers with.
type container struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string
	Expiration      string
	AccountID       string `json:"AccountId,omitempty"`
}

func containerForm(c api.Credentials) (container, error) {
	if !complete(c) {
		return container{}, errIncomplete
	}
	return container{c.AccessKeyID, string(c.SecretAccessKey.Reveal()), string(c.SessionToken.Reveal()), Expiration(c.Expiration), Account(c)}, nil
}

// complete: an SDK takes a missing field for credentials that never expire, or for none at all, and
// looks for others.
func complete(c api.Credentials) bool {
	return c.AccessKeyID != "" && !c.SecretAccessKey.Empty() && !c.SessionToken.Empty() && !c.Expiration.IsZero()
}

// ProcessForm is what credential_process prints, a line that begins with the version. Source: AWS SDKs
// and tools reference, "Process credential provider", Version 1.
func ProcessForm(c api.Credentials) ([]byte, error) {
	if !complete(c) {
		return nil, errIncomplete
	}
	line, err := json.Marshal(struct {
		Version                                    int
		AccessKeyId, SecretAccessKey, SessionToken string
		Expiration                                 string
		AccountId                                  string `json:",omitempty"`
	}{1, c.AccessKeyID, string(c.SecretAccessKey.Reveal()), string(c.SessionToken.Reveal()), Expiration(c.Expiration), Account(c)})
	return append(line, '\n'), err
}

// Expiration writes a time as every SDK reads it, never later than it is.
func Expiration(t time.Time) string { return t.UTC().Format(second) }

// Account is the AWS account of credentials, by the ARN of their session; "" where that does not say.
func Account(c api.Credentials) string {
	parts := strings.SplitN(c.AssumedRoleARN, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || len(parts[4]) != 12 || strings.Trim(parts[4], "0123456789") != "" {
		return ""
	}
	return parts[4]
}

// refusal is what SDKs read of an error and show to the person.
type refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// statusOf chooses so that SDKs repeat only what can mend itself: they repeat 429 and 5xx.
func statusOf(k api.Kind) int {
	switch k {
	case api.KindUpstream: // AWS said no, and will say it again
		return http.StatusFailedDependency
	case api.KindUnreachable, api.KindUnavailable:
		return http.StatusServiceUnavailable
	}
	if status := k.Status(); status != http.StatusInternalServerError || k == api.KindInternal {
		return status
	}
	return http.StatusForbidden // a kind that only this machine has: somebody must do something
}

// problemOf is what the SDK is told. What is no Problem may hold what must not leave.
func problemOf(err error) *api.Problem {
	var p *api.Problem
	if errors.As(err, &p) {
		return p
	}
	return api.Errorf(api.KindInternal, "internal error of sega")
}

func writeProblem(w http.ResponseWriter, p *api.Problem) {
	text := p.Detail
	if p.Hint != "" {
		text += "; " + p.Hint
	}
	w.Header().Set("Connection", "close") // else a body that never comes would be waited for
	writeJSON(w, statusOf(p.Kind), refusal{string(p.Kind), oneLine(text)})
}

// oneLine keeps what a broker says from acting on a terminal: SDKs print messages as they are.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

// writeJSON answers with the exact type that SDKs want: with a charset behind it, Go's takes the body
// for an error's text.
func writeJSON(w http.ResponseWriter, status int, body any) {
	raw, err := json.Marshal(body)
	if err != nil { // strings alone are marshalled
		status, raw = http.StatusInternalServerError, []byte(`{"code":"internal","message":"internal error of sega"}`)
	}
	write(w, status, "application/json", raw)
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // who does not read it has gone
}
