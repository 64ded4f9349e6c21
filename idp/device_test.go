package idp

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sega/keychain/secret"
)

func TestDeviceStart(t *testing.T) {
	s := newIssuer(t)
	p := s.discover(t)
	good := func() Device {
		return Device{UserCode: "ABCD-EFGH", VerificationURI: "https://corp.example/activate", Interval: 5 * time.Second, Expires: s.clock().Add(10 * time.Minute)}
	}
	for _, c := range []struct {
		name, body string
		want       func(*Device) // nil: an error
	}{
		{"usual", `{"device_code":"dc","user_code":"ABCD-EFGH","verification_uri":"https://corp.example/activate","expires_in":600,"interval":7}`,
			func(d *Device) { d.Interval = 7 * time.Second }},
		{"no interval", `{"device_code":"dc","user_code":"ABCD-EFGH","verification_uri":"https://corp.example/activate","expires_in":600}`, func(*Device) {}},
		{"absurd interval", `{"device_code":"dc","user_code":"ABCD-EFGH","verification_uri":"https://corp.example/activate","expires_in":600,"interval":9223372036854775807}`,
			func(d *Device) { d.Interval = 5 * time.Minute }},
		{"absurd life", `{"device_code":"dc","user_code":"ABCD-EFGH","verification_uri":"https://corp.example/activate","expires_in":9223372036854775807}`,
			func(d *Device) { d.Expires = s.clock().Add(30 * time.Minute) }},
		{"no code", `{"user_code":"ABCD-EFGH","verification_uri":"https://corp.example/activate","expires_in":600}`, nil},
		{"no life", `{"device_code":"dc","user_code":"ABCD-EFGH","verification_uri":"https://corp.example/activate"}`, nil},
		{"page without TLS", `{"device_code":"dc","user_code":"ABCD-EFGH","verification_uri":"http://corp.example/activate","expires_in":600}`, nil},
		{"page that is a script", `{"device_code":"dc","user_code":"ABCD-EFGH","verification_uri":"javascript:1","expires_in":600}`, nil},
		{"complete page elsewhere", `{"device_code":"dc","user_code":"A","verification_uri":"https://corp.example/activate","verification_uri_complete":"file:///etc","expires_in":600}`, nil},
		{"code that steers a terminal", "{\"device_code\":\"dc\",\"user_code\":\"\\u001b[2J\",\"verification_uri\":\"https://corp.example/activate\",\"expires_in\":600}", nil},
		{"no JSON", `<html>`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.answer = func(url.Values) (int, string) { return http.StatusOK, c.body }
			got, err := p.DeviceStart(t.Context(), testClient, []string{"email"})
			if c.want == nil {
				if err == nil {
					t.Errorf("accepted: %+v", got)
				}
				return
			}
			want := good()
			c.want(&want)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Device{}, "Code")); diff != "" || err != nil {
				t.Errorf("%v %s", err, diff)
			}
			if string(got.Code.Reveal()) != "dc" {
				t.Error("device code lost")
			}
		})
	}
	if scope := s.forms[0].Get("scope"); scope != "openid email" {
		t.Errorf("scope %q", scope)
	}
}

func TestDevicePollAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   error
	}{
		{"approved", 200, tokenJSON("id", ""), nil},
		{"pending", 400, `{"error":"authorization_pending"}`, ErrPending},
		{"slow down", 400, `{"error":"slow_down"}`, ErrSlowDown},
		{"expired", 400, `{"error":"expired_token"}`, ErrExpired},
		{"denied", 400, `{"error":"access_denied"}`, ErrDenied},
		{"spent", 400, `{"error":"invalid_grant"}`, ErrInvalidGrant},
		{"outage", 503, ``, ErrUnreachable},
		{"no ID token", 200, `{"token_type":"Bearer","access_token":"at"}`, ErrNoIDToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newIssuer(t)
			p := s.discover(t)
			s.answer = func(url.Values) (int, string) { return c.status, c.body }
			_, err := p.DevicePoll(t.Context(), testClient, Device{Code: secret.FromString("dc"), Expires: s.clock().Add(time.Minute)})
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			want := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {testClient}, "device_code": {"dc"}}
			if diff := cmp.Diff([]url.Values{want}, s.forms); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExpiredDeviceIsNotPolled(t *testing.T) {
	s := newIssuer(t)
	p := s.discover(t)
	_, err := p.DevicePoll(t.Context(), testClient, Device{Code: secret.FromString("dc"), Expires: s.clock()})
	if !errors.Is(err, ErrExpired) || len(s.forms) != 0 {
		t.Errorf("got %v after %d calls", err, len(s.forms))
	}
}

func TestUnreachableProviderIsRetryable(t *testing.T) {
	s := newIssuer(t)
	p := s.discover(t)
	p.meta.Token = "http://127.0.0.1:1/token"
	_, err := p.DevicePoll(t.Context(), testClient, Device{Code: secret.FromString("canary"), Expires: s.clock().Add(time.Minute)})
	if !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}
