package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"sega/broker/api"
	"sega/broker/client"
)

// probeTime bounds an exchange with the broker or the identity provider.
const probeTime = 3 * time.Second

// errNoBroker is for where no broker is known, so that nothing can be asked.
var errNoBroker = errors.New("no broker is known yet")

// exchange is an HTTP answer and what the way to it shows.
type exchange struct {
	took   time.Duration
	local  time.Time // this machine's clock, in the middle of the exchange
	date   time.Time // the other side's, zero where it says none
	tls    *tls.ConnectionState
	proto  string
	status int
	header http.Header
	body   []byte
}

// ask makes a GET. Redirects are not followed.
func ask(ctx context.Context, rt http.RoundTripper, now func() time.Time, address string) (exchange, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return exchange{}, err
	}
	begun, local := time.Now(), now()
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return exchange{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	e := exchange{took: time.Since(begun), tls: resp.TLS, proto: resp.Proto, status: resp.StatusCode, header: resp.Header}
	e.local = local.Add(e.took / 2)
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		e.date = date
	}
	e.body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return e, err
}

// issuer is that of the certificate which was shown, "" without TLS.
func (e exchange) issuer() string {
	if e.tls == nil || len(e.tls.PeerCertificates) == 0 {
		return ""
	}
	return e.tls.PeerCertificates[0].Issuer.String()
}

// broker is what is known of the broker after it was asked what it is.
type broker struct {
	exchange
	origin string
	config api.Configuration
}

// brokerError is why a broker is not usable; the text names its address and the remedy is its own.
type brokerError struct {
	text, mend string
	issuer     string // of a certificate that was not believed
}

func (e brokerError) Error() string { return e.text }

func (x *exam) askBroker(ctx context.Context) (broker, error) {
	b := broker{}
	var err error
	if b.origin, err = x.Origin(); err != nil {
		return b, fmt.Errorf("%w: %w", errNoBroker, err)
	}
	rt, err := x.Transport()
	if err != nil {
		return b, err
	}
	b.exchange, err = ask(ctx, rt, x.Now, b.origin+api.RouteConfiguration)
	if err != nil {
		return b, x.unreachable(b.origin, err)
	}
	if b.status != http.StatusOK || json.Unmarshal(b.body, &b.config) != nil || b.config.Origin == "" {
		return b, brokerError{text: fmt.Sprintf("%s answers with HTTP status %d, and not as a sega broker does", b.origin, b.status),
			mend: "check SEGA_BROKER and any proxy in between; in a network that asks for a login of its own, open a page in the browser"}
	}
	if b.config.Origin != b.origin {
		return b, brokerError{text: fmt.Sprintf("%s says that it is %s", b.origin, b.config.Origin), mend: "sega login " + b.config.Origin}
	}
	return b, nil
}

// unreachable explains a failed exchange with the broker.
func (x *exam) unreachable(origin string, err error) error {
	if d, ok := client.Distrusted(err); ok {
		e := brokerError{text: fmt.Sprintf("the certificate of %s is not trusted: %s", origin, d.Why), issuer: d.Issuer, mend: "set SEGA_CA_FILE to a PEM file of the CA that has issued it"}
		switch {
		case d.Name:
			e.mend = "check SEGA_BROKER"
		case d.Early, d.Late:
			e.mend = "check this machine's clock; if it is right, the broker's operators must renew it"
		}
		return e
	}
	return brokerError{text: fmt.Sprintf("%s cannot be reached: %s", origin, client.Reason(err)), mend: "check the network, HTTPS_PROXY and NO_PROXY, and SEGA_BROKER"}
}

// proxyOf is the proxy that a request to an address goes through, nil for none.
func proxyOf(t *http.Transport, address string) (*url.URL, error) {
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil || t.Proxy == nil {
		return nil, err
	}
	return t.Proxy(req)
}
