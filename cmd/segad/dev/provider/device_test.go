package provider_test

import (
	"errors"
	"testing"
	"time"

	"sega/cmd/segad/dev/browser"
	"sega/idp"
)

func (w *world) device(t *testing.T) idp.Device {
	t.Helper()
	d, err := w.idp.DeviceStart(t.Context(), clientID, []string{"openid", "email", "groups", "offline_access"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// poll polls after waiting d by the provider's clock.
func (w *world) poll(t *testing.T, d idp.Device, wait time.Duration) (idp.Tokens, error) {
	t.Helper()
	w.clock.add(wait)
	return w.idp.DevicePoll(t.Context(), clientID, d)
}

func TestDeviceLogin(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t)
	if d.Interval != 5*time.Second || d.VerificationURIComplete == "" || len(d.UserCode) != 9 {
		t.Errorf("device: %+v", d)
	}
	if _, err := w.poll(t, d, 0); !errors.Is(err, idp.ErrPending) {
		t.Fatalf("before the approval: %v", err)
	}
	if err := w.browser().Visit(t.Context(), d.VerificationURIComplete, credentials(ann())); err != nil {
		t.Fatal(err)
	}
	tokens, err := w.poll(t, d, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	id, err := w.verifier.VerifyDevice(t.Context(), tokens.IDToken)
	if err != nil || id.Subject != "00uann" || !id.MFA || id.Nonce != "" {
		t.Errorf("identity %+v, %v", id, err)
	}
	if _, err := w.verifier.Verify(t.Context(), tokens.IDToken, ""); !errors.Is(err, idp.ErrNonce) {
		t.Errorf("a device's token as a login of a browser: %v", err)
	}
	if _, err := w.poll(t, d, 5*time.Second); !errors.Is(err, idp.ErrInvalidGrant) {
		t.Errorf("the device code worked twice: %v", err)
	}
	if _, err := w.idp.Refresh(t.Context(), clientID, tokens.RefreshToken); err != nil {
		t.Errorf("refresh: %v", err)
	}
}

func TestSlowDownIsPermanent(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t)
	for _, step := range []struct {
		wait time.Duration
		want error
	}{
		{0, idp.ErrPending},
		{4 * time.Second, idp.ErrSlowDown}, // now 10 s
		{9 * time.Second, idp.ErrSlowDown}, // now 15 s
		{15 * time.Second, idp.ErrPending},
		{14 * time.Second, idp.ErrSlowDown},
		{20 * time.Second, idp.ErrPending},
	} {
		if _, err := w.poll(t, d, step.wait); !errors.Is(err, step.want) {
			t.Errorf("after %v: %v, want %v", step.wait, err, step.want)
		}
	}
}

func TestDeviceThatExpires(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t)
	w.clock.add(10*time.Minute - time.Second)
	if _, err := w.poll(t, d, 0); !errors.Is(err, idp.ErrPending) {
		t.Errorf("a second before the end: %v", err)
	}
	if _, err := w.poll(t, d, time.Second); !errors.Is(err, idp.ErrExpired) {
		t.Errorf("at the end: %v", err)
	}
	var page *browser.PageError
	if err := w.browser().Visit(t.Context(), d.VerificationURIComplete, credentials(ann())); !errors.As(err, &page) {
		t.Errorf("approving what has expired: %v", err)
	}
}

func TestDeniedDevice(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t)
	c := credentials(ann())
	c.Deny = true
	if err := w.browser().Visit(t.Context(), d.VerificationURIComplete, c); err != nil {
		t.Fatal(err)
	}
	if _, err := w.poll(t, d, 5*time.Second); !errors.Is(err, idp.ErrDenied) {
		t.Errorf("got %v, want ErrDenied", err)
	}
}

func TestDeviceNeedsTheCodeTyped(t *testing.T) {
	w := newWorld(t, nil)
	w.device(t)
	var page *browser.PageError
	err := w.browser().Visit(t.Context(), w.Issuer()+"/device?user_code=WRNG-CODE", credentials(ann()))
	if !errors.As(err, &page) || page.Message != "The code is wrong or has expired." {
		t.Errorf("got %v", err)
	}
}
