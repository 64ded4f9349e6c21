package sts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Signature Version 4, AWS General Reference "Create a signed AWS API request".
const (
	algorithm = "AWS4-HMAC-SHA256"
	amzDate   = "20060102T150405Z"
	maxSkew   = 15 * time.Minute
)

// authorization is a parsed Authorization header.
type authorization struct {
	keyID, date, region, service string
	headers                      []string // lower case, sorted, as signed
	signature                    []byte   // 32 bytes
}

var (
	scopeRule     = regexp.MustCompile(`\A(\w{16,128})/([0-9]{8})/([a-z0-9-]{1,64})/([a-z0-9-]{1,64})/aws4_request\z`)
	headerRule    = regexp.MustCompile(`\A[a-z0-9!#$%&'*+.^_|~-]+(;[a-z0-9!#$%&'*+.^_|~-]+)*\z`)
	signatureRule = regexp.MustCompile(`\A[0-9a-f]{64}\z`)
)

// parseAuthorization reads `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`, each part
// once, in any order, with or without blanks after the commas.
func parseAuthorization(h string) (authorization, *fault) {
	rest, ok := strings.CutPrefix(h, algorithm+" ")
	if !ok {
		return authorization{}, incomplete("Unsupported authorization algorithm; " + algorithm + " is required")
	}
	parts := map[string]string{}
	for p := range strings.SplitSeq(rest, ",") {
		k, v, ok := strings.Cut(strings.TrimSpace(p), "=")
		if _, twice := parts[k]; !ok || twice || (k != "Credential" && k != "SignedHeaders" && k != "Signature") {
			return authorization{}, incomplete("Authorization header has a malformed, unknown or repeated part")
		}
		parts[k] = v
	}
	scope := scopeRule.FindStringSubmatch(parts["Credential"])
	switch {
	case scope == nil:
		return authorization{}, incomplete("Authorization header requires a valid 'Credential' parameter")
	case !headerRule.MatchString(parts["SignedHeaders"]):
		return authorization{}, incomplete("Authorization header requires a valid 'SignedHeaders' parameter")
	case !signatureRule.MatchString(parts["Signature"]):
		return authorization{}, incomplete("Authorization header requires a valid 'Signature' parameter")
	}
	a := authorization{keyID: scope[1], date: scope[2], region: scope[3], service: scope[4], headers: strings.Split(parts["SignedHeaders"], ";")}
	a.signature, _ = hex.DecodeString(parts["Signature"])
	if !slices.IsSorted(a.headers) || len(slices.Compact(slices.Clone(a.headers))) != len(a.headers) {
		return authorization{}, incomplete("SignedHeaders must be sorted and name each header once")
	}
	return a, nil
}

// String returns the header in the order in which AWS's own clients write it.
func (a authorization) String() string {
	return algorithm + " Credential=" + a.keyID + "/" + a.scope() + ", SignedHeaders=" + strings.Join(a.headers, ";") + ", Signature=" + hex.EncodeToString(a.signature)
}

func (a authorization) scope() string {
	return a.date + "/" + a.region + "/" + a.service + "/aws4_request"
}

// checkScope checks what needs no key: service, region, date, and that the signature covers the
// host, the date and the security token.
func (a authorization) checkScope(r *http.Request, region string, now time.Time) *fault {
	if a.service != "sts" {
		return mismatch("Credential should be scoped to correct service: 'sts'.")
	}
	if a.region != "us-east-1" && a.region != region {
		return mismatch("Credential should be scoped to a valid region.")
	}
	for _, h := range [...]string{"Host", "X-Amz-Date", "X-Amz-Security-Token"} {
		if (h == "Host" || r.Header.Get(h) != "") && !slices.Contains(a.headers, strings.ToLower(h)) {
			return mismatch("'" + h + "' must be a signed header.")
		}
	}
	at, err := time.Parse(amzDate, r.Header.Get("X-Amz-Date"))
	if err != nil {
		return incomplete("Authorization header requires existence of a valid 'X-Amz-Date' header")
	}
	if a.date != at.Format("20060102") {
		return mismatch("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
	}
	if at.Before(now.Add(-maxSkew)) {
		return mismatch("Signature expired: " + at.Format(amzDate) + " is now earlier than " + now.Add(-maxSkew).UTC().Format(amzDate) + " (" + now.UTC().Format(amzDate) + " - 15 min.)")
	}
	if at.After(now.Add(maxSkew)) {
		return mismatch("Signature not yet current: " + at.Format(amzDate) + " is still later than " + now.Add(maxSkew).UTC().Format(amzDate) + " (" + now.UTC().Format(amzDate) + " + 15 min.)")
	}
	return nil
}

// verify recomputes the signature over the request and compares in constant time.
func (a authorization) verify(r *http.Request, body, key []byte) *fault {
	if h := r.Header.Get("X-Amz-Content-Sha256"); h != "" && h != hexSHA256(body) {
		return mismatch("The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	if !hmac.Equal(a.sign(r, body, key), a.signature) {
		return mismatch("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

// sign returns the signature of the request under key.
func (a authorization) sign(r *http.Request, body, key []byte) []byte {
	toSign := strings.Join([]string{algorithm, r.Header.Get("X-Amz-Date"), a.scope(), hexSHA256([]byte(a.canonical(r, body)))}, "\n")
	k := append([]byte("AWS4"), key...)
	for _, part := range []string{a.date, a.region, a.service, "aws4_request", toSign} {
		k = mac(k, part)
	}
	return k
}

// canonical returns the canonical request. STS has one path, "/".
func (a authorization) canonical(r *http.Request, body []byte) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n/\n" + canonicalQuery(r.URL.Query()) + "\n")
	for _, h := range a.headers {
		b.WriteString(h + ":" + headerValue(r, h) + "\n")
	}
	b.WriteString("\n" + strings.Join(a.headers, ";") + "\n" + hexSHA256(body))
	return b.String()
}

// headerValue returns a header's canonical value: values joined by commas, outer blanks trimmed,
// inner ones made one. Go keeps Host and Content-Length apart from the header map.
func headerValue(r *http.Request, name string) string {
	switch {
	case name == "host":
		return r.Host
	case name == "content-length" && r.Header.Get("Content-Length") == "":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

// canonicalQuery sorts by encoded name, then by encoded value.
func canonicalQuery(q url.Values) string {
	type pair struct{ k, v string }
	var pairs []pair
	for k, vs := range q {
		for _, v := range vs {
			pairs = append(pairs, pair{uriEncode(k), uriEncode(v)})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if c := strings.Compare(a.k, b.k); c != 0 {
			return c
		}
		return strings.Compare(a.v, b.v)
	})
	parts := make([]string, len(pairs))
	for i, p := range pairs {
		parts[i] = p.k + "=" + p.v
	}
	return strings.Join(parts, "&")
}

// uriEncode escapes every byte but RFC 3986's unreserved ones. url.QueryEscape differs only in
// writing a blank as '+'.
func uriEncode(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func mac(key []byte, msg string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(msg))
	return h.Sum(nil)
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
