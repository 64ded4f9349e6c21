package idp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// Provider is an OpenID provider as its discovery document describes it. It is safe for
// concurrent use.
type Provider struct {
	meta   metadata
	client *http.Client
	now    func() time.Time
}

// metadata is what we use of the discovery document (OpenID Connect Discovery §3, RFC 8414, RFC 9207).
type metadata struct {
	Issuer     string   `json:"issuer"`
	Authorize  string   `json:"authorization_endpoint"`
	Token      string   `json:"token_endpoint"`
	Keys       string   `json:"jwks_uri"`
	Device     string   `json:"device_authorization_endpoint"`
	Revocation string   `json:"revocation_endpoint"`
	UserInfo   string   `json:"userinfo_endpoint"`
	Challenges []string `json:"code_challenge_methods_supported"`
	SendsIss   bool     `json:"authorization_response_iss_parameter_supported"`
}

// Discover reads the discovery document of issuer, which must name the issuer byte for byte. hc may
// be nil; redirects are never followed. Plain http is accepted for a loopback issuer alone.
// Errors: ErrConfig, ErrUnreachable, ErrUnsupported where the provider has no PKCE with S256.
func Discover(ctx context.Context, issuer string, hc *http.Client) (*Provider, error) {
	if err := checkIssuer(issuer); err != nil {
		return nil, err
	}
	p := &Provider{client: newClient(hc), now: time.Now}
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), issuer)
	if err != nil {
		return nil, discoveryError(issuer, err)
	}
	if err := found.Claims(&p.meta); err != nil {
		return nil, fmt.Errorf("%w: the discovery document of %s has a field of a wrong type", ErrConfig, issuer)
	}
	if err := p.meta.check(issuer); err != nil {
		return nil, err
	}
	return p, nil
}

// discoveryError keeps what helps and leaves out the body that the library quotes.
func discoveryError(issuer string, err error) error {
	var mismatch *oidc.IssuerMismatchError
	if errors.As(err, &mismatch) {
		return fmt.Errorf("%w: the discovery document at %s names another issuer, %s: they must be equal byte for byte",
			ErrConfig, issuer, printable(mismatch.Discovered, 200))
	}
	var transport *url.Error
	if errors.As(err, &transport) {
		return fmt.Errorf("%w: discovery of %s: %w", ErrUnreachable, issuer, transport)
	}
	return fmt.Errorf("%w: %s has no readable discovery document", ErrUnreachable, issuer)
}

// check holds the document against the issuer that was asked for.
func (m metadata) check(issuer string) error {
	if m.Issuer != issuer {
		return fmt.Errorf("%w: the discovery document names another issuer", ErrConfig)
	}
	for name, endpoint := range map[string]string{
		"authorization_endpoint": m.Authorize, "token_endpoint": m.Token, "jwks_uri": m.Keys,
	} {
		if endpoint == "" {
			return fmt.Errorf("%w: the discovery document has no %s", ErrConfig, name)
		}
	}
	for _, endpoint := range []string{m.Authorize, m.Token, m.Keys, m.Device, m.Revocation, m.UserInfo} {
		if endpoint != "" && !m.trusted(endpoint) {
			return fmt.Errorf("%w: the discovery document names an endpoint without TLS", ErrConfig)
		}
	}
	if len(m.Challenges) > 0 && !slices.Contains(m.Challenges, "S256") {
		return fmt.Errorf("%w: PKCE with S256", ErrUnsupported)
	}
	return nil
}

// trusted reports whether address is https, or loopback http of a loopback issuer.
func (m metadata) trusted(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	issuer, err := url.Parse(m.Issuer)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http" && issuer.Scheme == "http" && loopback(u.Hostname()))
}

// Issuer returns the issuer identifier.
func (p *Provider) Issuer() string { return p.meta.Issuer }

// checkIssuer accepts an https URL without query or fragment, or http on loopback.
func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("%w: the issuer must be a URL such as https://login.corp.example", ErrConfig)
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("%w: the issuer must use https", ErrConfig)
}

// loopback reports whether host is this machine for sure.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
