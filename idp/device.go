package idp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"sega/keychain/secret"
)

const (
	defaultInterval = 5 * time.Second  // RFC 8628 §3.2
	maxDeviceLife   = 30 * time.Minute // longer codes are only a longer invitation to phishing
)

// Device is a device authorization (RFC 8628 §3.2) that waits for its approval. Who runs the flow
// polls no faster than Interval, adds 5 s to it for every ErrSlowDown, and stops at Expires.
type Device struct {
	Code                    secret.Secret
	UserCode                string
	VerificationURI         string
	VerificationURIComplete string // with the user code in it; may be empty
	Interval                time.Duration
	Expires                 time.Time
}

// deviceAnswer is the wire form of Device.
type deviceAnswer struct {
	Code     secret.Secret `json:"device_code"`
	UserCode string        `json:"user_code"`
	URI      string        `json:"verification_uri"`
	Complete string        `json:"verification_uri_complete"`
	Expires  int64         `json:"expires_in"`
	Interval int64         `json:"interval"`
}

// DeviceStart begins a device login. The broker runs it for a client, so that an ID token without
// a nonce never leaves the broker. Errors: ErrUnsupported, ErrUnreachable, *OAuthError.
func (p *Provider) DeviceStart(ctx context.Context, clientID string, scopes []string) (Device, error) {
	if p.meta.Device == "" {
		return Device{}, fmt.Errorf("%w: the device grant", ErrUnsupported)
	}
	if !slices.Contains(scopes, oidc.ScopeOpenID) {
		scopes = append([]string{oidc.ScopeOpenID}, scopes...)
	}
	body, err := p.post(ctx, p.meta.Device, url.Values{"client_id": {clientID}, "scope": {strings.Join(scopes, " ")}})
	if err != nil {
		return Device{}, fmt.Errorf("start a device login: %w", err)
	}
	return p.device(body)
}

// device reads and checks the answer: people are shown its URL and code.
func (p *Provider) device(body []byte) (Device, error) {
	var a deviceAnswer
	if json.Unmarshal(body, &a) != nil || a.Code.Empty() || a.UserCode == "" || a.Expires <= 0 {
		return Device{}, errors.New("start a device login: the identity provider's answer is malformed")
	}
	if !p.meta.trusted(a.URI) || a.Complete != "" && !p.meta.trusted(a.Complete) || printable(a.UserCode, 40) != a.UserCode {
		return Device{}, errors.New("start a device login: the identity provider's answer is not fit to be shown")
	}
	d := Device{
		Code: a.Code, UserCode: a.UserCode, VerificationURI: a.URI, VerificationURIComplete: a.Complete,
		Interval: defaultInterval, Expires: p.now().Add(maxDeviceLife),
	}
	if a.Interval > 0 {
		d.Interval = min(time.Duration(min(a.Interval, 300))*time.Second, 5*time.Minute)
	}
	if a.Expires < int64(maxDeviceLife/time.Second) {
		d.Expires = p.now().Add(time.Duration(a.Expires) * time.Second)
	}
	return d, nil
}

// DevicePoll asks once whether the person has approved. Errors: ErrPending and ErrSlowDown mean
// ask again; ErrUnreachable too, after a while (RFC 8628 §3.5); ErrExpired, ErrDenied and
// everything else end the login.
func (p *Provider) DevicePoll(ctx context.Context, clientID string, d Device) (Tokens, error) {
	if !p.now().Before(d.Expires) {
		return Tokens{}, ErrExpired
	}
	return p.login(ctx, url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"},
		"client_id":  {clientID}, "device_code": {string(d.Code.Reveal())},
	})
}
