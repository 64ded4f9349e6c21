package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"strings"
)

// proxy says which proxy lies between here and the broker.
func (x *exam) proxy(context.Context) []Finding {
	var found []Finding
	for _, name := range []string{"HTTPS_PROXY", "NO_PROXY"} {
		upper, lower := x.Getenv(name), x.Getenv(strings.ToLower(name))
		if upper != "" && lower != "" && upper != lower {
			found = append(found, warning("set both to the same, or unset "+strings.ToLower(name), "%s and %s differ: sega takes the first, many tools the second", name, strings.ToLower(name)))
		}
	}
	origin, err := x.Origin()
	if err != nil {
		return append(found, unknown("no broker is known yet"))
	}
	t, err := x.Transport()
	if err != nil {
		return append(found, unknown("the trust in the broker's certificate cannot be set up"))
	}
	via, err := proxyOf(t, origin)
	switch {
	case err != nil:
		return append(found, failing("set HTTPS_PROXY to an address like http://proxy.corp.example:3128", "the proxy for %s is no address", origin))
	case via != nil:
		return append(found, good("%s is reached by the proxy %s", origin, via.Host))
	}
	return append(found, good("%s is reached without a proxy", origin))
}

// interceptors are products that open TLS, as they name themselves in the certificates that they issue.
var interceptors = []string{"zscaler", "netskope", "blue coat", "bluecoat", "symantec web", "palo alto", "fortinet", "fortigate", "cisco umbrella", "forcepoint", "websense",
	"sophos", "mcafee web", "skyhigh", "check point", "checkpoint", "iboss", "barracuda", "squid", "mitmproxy", "charles proxy", "burp", "kaspersky", "avast", "eset ssl", "proxy"}

// intercepted names the product in an issuer, "" for none.
func intercepted(issuer string) string {
	lower := strings.ToLower(issuer)
	for _, name := range interceptors {
		if strings.Contains(lower, name) {
			return issuer
		}
	}
	return ""
}

// ca looks at the files of trusted certificates, and for a proxy that opens TLS.
func (x *exam) ca(ctx context.Context) []Finding {
	var found []Finding
	for _, name := range []string{"SEGA_CA_FILE", "AWS_CA_BUNDLE", "SSL_CERT_FILE"} {
		if path := x.Getenv(name); path != "" {
			found = append(found, x.bundle(name, path)...)
		}
	}
	issuer := ""
	var bad brokerError
	b, err := x.broker.get(ctx)
	switch {
	case err == nil:
		issuer = intercepted(b.issuer())
	case errors.As(err, &bad):
		issuer = intercepted(bad.issuer)
	}
	if p, err := x.idp.get(ctx); err == nil && issuer == "" {
		issuer = intercepted(p.seen.issuer())
	}
	if issuer != "" && x.Getenv("AWS_CA_BUNDLE") == "" {
		found = append(found, warning("set AWS_CA_BUNDLE to a PEM file that holds the proxy's CA, for AWS's tools", "a proxy opens TLS: certificates here are issued by %s", issuer))
	}
	switch {
	case x.Getenv("SEGA_CA_FILE") != "":
		return orGood(found, "SEGA_CA_FILE alone is trusted for the broker")
	case issuer != "":
		return orGood(found, "a proxy opens TLS (%s), and it is trusted", issuer)
	}
	return orGood(found, "the system's trust is used, and no proxy opens TLS")
}

// bundle judges a file of certificates.
func (x *exam) bundle(name, path string) []Finding {
	mend := "set " + name + " to a PEM file of certificates, or: unset " + name
	data, err := os.ReadFile(path)
	if err != nil {
		return one(failing(mend, "%s names a file that cannot be read: %s", name, path))
	}
	valid, ended := 0, 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			continue
		}
		if x.Now().After(c.NotAfter) {
			ended++
			continue
		}
		valid++
	}
	switch {
	case valid == 0 && ended > 0:
		return one(failing(mend, "every certificate in %s (%s) has ended", path, name))
	case valid == 0:
		return one(failing(mend, "%s (%s) holds no certificate", path, name))
	}
	return nil
}
