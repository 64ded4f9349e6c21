package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sega/idp"
)

// provider is what is known of the identity provider after its discovery document was read.
type provider struct {
	issuer string
	seen   exchange
}

// askProvider reads the discovery document of the issuer that the broker names, or that it named at the last login.
func (x *exam) askProvider(ctx context.Context) (provider, error) {
	var p provider
	if x.Pinned != nil {
		p.issuer = x.Pinned.Issuer
	} else {
		b, err := x.broker.get(ctx)
		if err != nil {
			return p, errNoBroker
		}
		p.issuer = b.config.Issuer
	}
	recorder := &recorder{base: http.DefaultTransport, now: x.Now}
	_, err := idp.Discover(ctx, p.issuer, &http.Client{Transport: recorder, Timeout: probeTime})
	p.seen = recorder.first
	return p, err
}

// recorder remembers the first answer that passes, without its body.
type recorder struct {
	base  http.RoundTripper
	now   func() time.Time
	first exchange
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	begun, local := time.Now(), r.now()
	resp, err := r.base.RoundTrip(req)
	if err == nil && r.first.status == 0 {
		r.first = exchange{took: time.Since(begun), tls: resp.TLS, proto: resp.Proto, status: resp.StatusCode}
		r.first.local = local.Add(r.first.took / 2)
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			r.first.date = date
		}
	}
	return resp, err
}

// provider says whether logins and renewals have somebody to ask.
func (x *exam) provider(ctx context.Context) []Finding {
	p, err := x.idp.get(ctx)
	if errors.Is(err, errNoBroker) {
		return one(unknown("which identity provider it is, the broker says, and it cannot be asked"))
	}
	if err != nil {
		text, mend := x.Explain(err)
		return one(failing(mend, "%s", text))
	}
	if b, err := x.broker.get(ctx); err == nil && b.config.Issuer != p.issuer {
		return one(failing("sega login", "the broker names another identity provider than at your last login: %s", b.config.Issuer))
	}
	return one(good("%s answers in %s and has what a login needs", p.issuer, p.seen.took.Round(time.Millisecond)))
}

// ports looks whether the browser's answer to a login would reach sega.
func (x *exam) ports(ctx context.Context) []Finding {
	config := x.Pinned
	if config == nil {
		b, err := x.broker.get(ctx)
		if err != nil {
			return one(unknown("which ports are registered for logins, the broker says, and it cannot be asked"))
		}
		config = &b.config
	}
	var free, busy []string
	for _, port := range slices.Sorted(slices.Values(config.RedirectPorts)) {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			busy = append(busy, strconv.Itoa(port))
			continue
		}
		_ = l.Close()
		free = append(free, strconv.Itoa(port))
	}
	const mend = "end what listens there, or log in with: sega login --paste"
	switch {
	case len(free) == 0:
		return one(failing(mend, "no port for the browser's answer to a login is free: %s", strings.Join(busy, ", ")))
	case len(busy) > 0:
		return one(good("ports for the browser's answer to a login: %s free, %s in use", strings.Join(free, ", "), strings.Join(busy, ", ")))
	}
	return one(good("ports for the browser's answer to a login: %s free", strings.Join(free, ", ")))
}
