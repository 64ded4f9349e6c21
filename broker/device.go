package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"sega/broker/api"
	"sega/idp"
)

// devicesLimit bounds the device logins under way; each costs a call to the IdP.
const devicesLimit = 1000

// devicesEach bounds those of one address.
const devicesEach = 10

// devices holds device logins under way. The broker runs the grant itself, so that the nonce-less
// ID token never leaves it: nobody can show it under another key (R1).
type devices struct {
	mu    sync.Mutex
	under map[string]*deviceLogin
}

type deviceLogin struct {
	mu         sync.Mutex
	device     idp.Device
	thumbprint string
	network    string
	interval   time.Duration
	next       time.Time // when the IdP may be asked again
	expires    time.Time
}

func newDevices() *devices { return &devices{under: map[string]*deviceLogin{}} }

func (d *devices) add(handle string, l *deviceLogin, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for h, old := range d.under {
		if now.After(old.expires) {
			delete(d.under, h)
		}
	}
	same := 0
	for _, old := range d.under {
		if old.network == l.network {
			same++
		}
	}
	if len(d.under) >= devicesLimit || same >= devicesEach {
		return false
	}
	d.under[handle] = l
	return true
}

func (d *devices) get(handle string) *deviceLogin {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.under[handle]
}

func (d *devices) drop(handle string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.under, handle)
}

// deviceStart begins a device login (RFC 8628 §3.1) on behalf of the key that asks.
func (s *Server) deviceStart(ctx context.Context, c *call) (any, error) {
	if !s.DeviceGrant {
		return nil, s.refuse(ctx, c, api.Errorf(api.KindDenied, "the device grant is not allowed here").WithHint("run: sega login --paste"))
	}
	ctx, cancel := context.WithTimeout(ctx, s.Times.Upstream)
	defer cancel()
	device, err := s.Device.DeviceStart(ctx, s.ClientID, s.Scopes)
	if err != nil {
		return nil, api.Errorf(api.KindUpstream, "the identity provider began no device login").WithHint("run: sega login --paste").WithCause(err)
	}
	now, handle := s.Now(), api.NewID("dev_")
	login := &deviceLogin{device: device, thumbprint: c.proof.Thumbprint, network: network(c.source), interval: max(device.Interval, time.Second), expires: device.Expires}
	login.next = now.Add(login.interval)
	if !s.devices.add(handle, login, now) {
		return nil, api.Errorf(api.KindRateLimited, "too many device logins are under way").WithHint("wait a minute")
	}
	return api.DeviceStart{Handle: handle, UserCode: device.UserCode, VerificationURI: device.VerificationURI,
		VerificationURIComplete: device.VerificationURIComplete, Interval: int(login.interval.Seconds()), Expires: device.Expires}, nil
}

// devicePoll asks once; it obeys interval, slow_down and expiry whatever the client does.
func (s *Server) devicePoll(ctx context.Context, c *call) (any, error) {
	var r api.DevicePoll
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	login := s.devices.get(r.Handle)
	if login == nil || login.thumbprint != c.proof.Thumbprint {
		return nil, s.refuse(ctx, c, api.Errorf(api.KindNotFound, "no such device login").WithHint("run: sega login --device"))
	}
	login.mu.Lock()
	defer login.mu.Unlock()
	now := s.Now()
	switch {
	case now.After(login.expires):
		s.devices.drop(r.Handle)
		return nil, api.Errorf(api.KindExpired, "the device code has expired").WithHint("run: sega login --device")
	case now.Before(login.next.Add(-500 * time.Millisecond)): // the client's clock may run a little fast
		login.interval += 5 * time.Second
		return nil, api.Errorf(api.KindSlowDown, "polled too soon")
	}
	login.next = now.Add(login.interval)
	pctx, cancel := context.WithTimeout(ctx, s.Times.Upstream)
	defer cancel()
	tokens, err := s.Device.DevicePoll(pctx, s.ClientID, login.device)
	switch {
	case errors.Is(err, idp.ErrPending):
		return nil, api.Errorf(api.KindPending, "not yet approved")
	case errors.Is(err, idp.ErrSlowDown):
		login.interval += 5 * time.Second
		login.next = now.Add(login.interval)
		return nil, api.Errorf(api.KindSlowDown, "the identity provider asks to poll slower")
	case errors.Is(err, idp.ErrExpired):
		s.devices.drop(r.Handle)
		return nil, api.Errorf(api.KindExpired, "the device code has expired").WithHint("run: sega login --device")
	case errors.Is(err, idp.ErrDenied):
		s.devices.drop(r.Handle)
		return nil, s.refuse(ctx, c, api.Errorf(api.KindDenied, "the login was declined at the identity provider"))
	case err != nil: // RFC 8628 §3.5: a transport error is a reason to wait, not to give up
		return nil, api.Errorf(api.KindPending, "the identity provider does not answer").WithCause(err)
	}
	s.devices.drop(r.Handle)
	return s.openSession(ctx, c, api.MethodDevice, r.Client, func(ctx context.Context) (idp.Identity, error) {
		id, err := s.Verifier.VerifyDevice(ctx, tokens.IDToken)
		if err != nil {
			return id, err
		}
		return s.withGroups(ctx, id, tokens.AccessToken)
	})
}
