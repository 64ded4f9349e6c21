package client

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sega/broker/api"
)

// HostToken makes a join token for one host. It is never repeated by itself.
func (c *Client) HostToken(ctx context.Context, r api.HostTokenRequest) (api.HostToken, error) {
	t, err := fetch[api.HostToken](ctx, c, post(api.RouteHostToken, r))
	if err == nil && unusable(t.Token) {
		return api.HostToken{}, api.Errorf(api.KindInternal, "the broker's answer holds no join token")
	}
	return t, err
}

// EnrollHost enrols a host for the client's key. It is never repeated by itself.
func (c *Client) EnrollHost(ctx context.Context, r api.HostEnrollRequest) (api.HostEnrolled, error) {
	return fetch[api.HostEnrolled](ctx, c, post(api.RouteHostEnroll, r).as(withKey))
}

// HostBundle waits until the host's bundle is another than that of a version, 20 s at most, and returns it.
// trust and krl are the versions of CA lists and revocation list that the host has in force.
func (c *Client) HostBundle(ctx context.Context, version, trust, krl int64) (api.HostBundle, error) {
	query := url.Values{}
	for name, v := range map[string]int64{api.ParamVersion: version, api.ParamTrust: trust, api.ParamKRL: krl} {
		query.Set(name, strconv.FormatInt(v, 10))
	}
	return fetch[api.HostBundle](ctx, c, get(api.RouteHostBundle, query, typeJSON))
}

// HostCertificate asks for the host's own certificate. It is never repeated by itself.
func (c *Client) HostCertificate(ctx context.Context, r api.HostCertificateRequest) (api.Certificate, error) {
	return fetch[api.Certificate](ctx, c, post(api.RouteHostCertificate, r))
}

// HostKeys asks which keys open an account of the host now.
func (c *Client) HostKeys(ctx context.Context, login string) (api.HostKeys, error) {
	return fetch[api.HostKeys](ctx, c, get(strings.Replace(api.RouteHostKeys, "{login}", url.PathEscape(login), 1), nil, typeJSON))
}

// HostAudit asks which logins a recording covers. A repeat has no effect.
func (c *Client) HostAudit(ctx context.Context, l api.HostLogins) (api.HostVerdicts, error) {
	v, err := fetch[api.HostVerdicts](ctx, c, post(api.RouteHostAudit, l).again())
	if err == nil && len(v.Verdicts) != len(l.Logins) {
		err = c.notSega("verdicts on other logins than were asked about")
	}
	return v, err
}

// KRL fetches OpenSSH's list of what is revoked. It is for anybody, and as large as there is revoked.
func (c *Client) KRL(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, maxKRLTime)
	defer cancel()
	k := get(api.RouteKRL, nil, typeBytes).as(withNothing)
	k.immutable = true
	resp, err := c.send(ctx, k)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return c.readAll(resp, maxKRL)
}

const (
	maxKRL     = 64 << 20 // bytes; a million serials that do not follow each other are 8 MB
	maxKRLTime = 5 * time.Minute
)
