package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Reason says in a few words of ours why an exchange over the network failed. It names no address:
// the errors of net/http quote theirs with the query.
func Reason(err error) string {
	var (
		dns     *net.DNSError
		timeout net.Error
		proxy   proxyError
		alert   tls.AlertError
		record  tls.RecordHeaderError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &proxy):
		return proxy.Error()
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "the proxy does not answer: " + Reason(op.Err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return "its name is not known"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout(), unanswered(err):
		return "no answer in time"
	case errors.As(err, &dns):
		return "no name server answers"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "there is no way to it from this network"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "it speaks plain HTTP, without TLS"
	case errors.As(err, &record):
		return "it does not speak TLS"
	case errors.As(err, &alert):
		return "it refuses the TLS connection: " + alert.Error()
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the answer is cut short"
	case broken(err):
		return "the connection broke"
	case strings.HasPrefix(rootCause(err).Error(), "tls: "): // crypto/tls has no type for what it refuses itself
		return "TLS failed: " + strings.TrimPrefix(rootCause(err).Error(), "tls: ")
	}
	return "the exchange failed"
}

func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// broken reports whether the connection was lost, as opposed to never made or refused.
func broken(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || unanswered(err)
}

// unanswered reports whether the other side has not answered the pings of HTTP/2; net/http has no type for it.
func unanswered(err error) bool { return rootCause(err).Error() == "http2: client connection lost" }

// proxyError is the refusal of a proxy to connect; net/http has no type for it.
type proxyError struct{ status int }

func (e proxyError) Error() string {
	if e.status == http.StatusProxyAuthRequired {
		return "the proxy wants a user name and a password"
	}
	return fmt.Sprintf("the proxy refuses to connect: HTTP status %d", e.status)
}

// Distrust is why a certificate that was shown is not believed.
type Distrust struct {
	Why    string // like "it is issued by CN=Corp Proxy, which is not trusted here"
	Issuer string // of the certificate, "" where it is not known

	Name  bool // it is made out to other names
	Late  bool // it has ended
	Early bool // it has not begun: this machine's clock is likely behind
}

// Distrusted explains a failure to verify the other side's certificate; ok is false where err is none.
func Distrusted(err error) (d Distrust, ok bool) {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		verify  *tls.CertificateVerificationError
		cert    *x509.Certificate
	)
	if errors.As(err, &verify) && len(verify.UnverifiedCertificates) > 0 {
		cert = verify.UnverifiedCertificates[0]
	}
	switch {
	case errors.As(err, &name):
		cert, d.Name = name.Certificate, true
		d.Why = "it is made out to another name"
		if len(cert.DNSNames) > 0 {
			d.Why = "it is made out to " + printable(strings.Join(cert.DNSNames[:min(len(cert.DNSNames), 3)], ", "))
		}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		cert = invalid.Cert
		d.Late, d.Early = !time.Now().Before(cert.NotAfter), time.Now().Before(cert.NotBefore)
		d.Why = fmt.Sprintf("it ended on %s", day(cert.NotAfter))
		if d.Early {
			d.Why = fmt.Sprintf("it begins on %s", day(cert.NotBefore))
		}
		d.Why += fmt.Sprintf(", and this machine's clock says %s", day(time.Now()))
	case errors.As(err, &unknown), errors.As(err, &invalid), verify != nil:
		d.Why = "nobody who is trusted here has issued it"
	default:
		return d, false
	}
	if cert != nil {
		d.Issuer = printable(cert.Issuer.String())
	}
	if d.Issuer != "" {
		d.Why += " (issuer: " + d.Issuer + ")"
	}
	return d, true
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
