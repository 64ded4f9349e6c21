package client

import (
	"context"

	"sega/broker/api"
)

// Configuration asks for what a login needs to know. It needs neither key nor session.
func (c *Client) Configuration(ctx context.Context) (api.Configuration, error) {
	return fetch[api.Configuration](ctx, c, get(api.RouteConfiguration, nil, typeJSON).as(withNothing))
}

// Login exchanges an ID token for a session bound to the client's key.
func (c *Client) Login(ctx context.Context, r api.LoginRequest) (api.Session, error) {
	return session(fetch[api.Session](ctx, c, post(api.RouteLogin, r).as(withKey)))
}

// DeviceStart begins a device login.
func (c *Client) DeviceStart(ctx context.Context) (api.DeviceStart, error) {
	return fetch[api.DeviceStart](ctx, c, post(api.RouteDevice, api.Empty{}).as(withKey))
}

// DevicePoll asks once for the outcome of a device login; until then the error is a Problem of
// KindPending or KindSlowDown.
func (c *Client) DevicePoll(ctx context.Context, r api.DevicePoll) (api.Session, error) {
	return session(fetch[api.Session](ctx, c, post(api.RouteDevicePoll, r).as(withKey)))
}

// Renew extends the session by a refreshed ID token.
func (c *Client) Renew(ctx context.Context, r api.RenewRequest) (api.Session, error) {
	return session(fetch[api.Session](ctx, c, post(api.RouteRenew, r)))
}

// Status asks about the session.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return fetch[api.Status](ctx, c, get(api.RouteSession, nil, typeJSON))
}

// Logout ends the session.
func (c *Client) Logout(ctx context.Context) error {
	return done(fetch[api.Empty](ctx, c, post(api.RouteLogout, api.Empty{})))
}

// Roles lists the AWS roles.
func (c *Client) Roles(ctx context.Context) (api.Roles, error) {
	return fetch[api.Roles](ctx, c, get(api.RouteRoles, nil, typeJSON))
}

// Credentials asks for AWS credentials. It is never repeated by itself.
func (c *Client) Credentials(ctx context.Context, r api.CredentialsRequest) (api.Credentials, error) {
	out, err := fetch[api.Credentials](ctx, c, post(api.RouteCredentials, r))
	if err == nil && (out.AccessKeyID == "" || unusable(out.SecretAccessKey) || unusable(out.SessionToken)) {
		return api.Credentials{}, c.notSega("credentials that are incomplete")
	}
	return out, err
}

// Reuse asks whether cached credentials may be handed out once more; without an error they may.
func (c *Client) Reuse(ctx context.Context, r api.ReuseRequest) (api.Reuse, error) {
	return fetch[api.Reuse](ctx, c, post(api.RouteReuse, r))
}

// Console asks for an address that opens the AWS console. It is never repeated by itself.
func (c *Client) Console(ctx context.Context, r api.ConsoleRequest) (api.Console, error) {
	return fetch[api.Console](ctx, c, post(api.RouteConsole, r))
}

// Hosts lists the SSH targets.
func (c *Client) Hosts(ctx context.Context) (api.Hosts, error) {
	return fetch[api.Hosts](ctx, c, get(api.RouteHosts, nil, typeJSON))
}

// Certificate asks for an access certificate. It is never repeated by itself.
func (c *Client) Certificate(ctx context.Context, r api.CertificateRequest) (api.Certificate, error) {
	return fetch[api.Certificate](ctx, c, post(api.RouteCertificate, r))
}
