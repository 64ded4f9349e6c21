package sts

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// door is a console with a browser in front of it.
type door struct {
	*Console
	bench
	browser *http.Client
}

func openDoor(t *testing.T) door {
	t.Helper()
	b := start(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewConsole(b.Server, l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return door{c, b, &http.Client{Jar: jar, Timeout: 10 * time.Second}}
}

// federate asks for a sign-in token as it should be asked for, changed by kv pairs.
func (d door) federate(t *testing.T, c creds, kv ...string) (int, string) {
	t.Helper()
	raw, err := json.Marshal(map[string]string{"sessionId": c.id, "sessionKey": c.secret, "sessionToken": c.token})
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"Action": {"getSigninToken"}, "Session": {string(raw)}}
	for i := 0; i < len(kv); i += 2 {
		form.Set(kv[i], kv[i+1])
	}
	resp, err := http.PostForm(d.Console.URL()+"/federation", form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	var answer struct{ SigninToken string }
	_ = json.Unmarshal(body, &answer)
	if resp.StatusCode != http.StatusOK && answer.SigninToken != "" || strings.Contains(string(body), c.secret) && c.secret != "" {
		t.Errorf("%d: %s", resp.StatusCode, body)
	}
	return resp.StatusCode, answer.SigninToken
}

func (d door) loginURL(token, destination string) string {
	return d.Console.URL() + "/federation?" + url.Values{"Action": {"login"}, "Issuer": {"https://sega.test"}, "Destination": {destination}, "SigninToken": {token}}.Encode()
}

func (d door) get(t *testing.T, address string) (int, string) {
	t.Helper()
	resp, err := d.browser.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// TestFederation: sign-in tokens are for live sessions of this double, and for chained ones without a
// SessionDuration (facts of AWS's support article, "Invalid credentials parameter").
func TestFederation(t *testing.T) {
	d := openDoor(t)
	plain := d.call(t, broker, assumeForm("DurationSeconds", "900")).creds()
	chained := d.call(t, creds{nodeKey, nodeSecret, ""}, assumeForm()).creds()
	second := d.call(t, plain, assumeForm("RoleArn", nextARN)).creds()
	for _, tt := range []struct {
		name   string
		who    creds
		kv     []string
		status int
	}{
		{"plain", plain, nil, 200},
		{"plain, an hour", plain, []string{"SessionDuration", "3600"}, 200},
		{"plain, twelve hours", plain, []string{"SessionDuration", "43200"}, 200},
		{"plain, more", plain, []string{"SessionDuration", "43201"}, 400},
		{"plain, less than AWS gives", plain, []string{"SessionDuration", "899"}, 400},
		{"plain, no number", plain, []string{"SessionDuration", "1h"}, 400},
		{"of a role", chained, nil, 200},
		{"of a role, with a duration", chained, []string{"SessionDuration", "900"}, 400},
		{"a second hop", second, nil, 200},
		{"a second hop, with a duration", second, []string{"SessionDuration", "900"}, 400},
		{"of a user", broker, nil, 400},
		{"another's key", creds{plain.id, chained.secret, plain.token}, nil, 400},
		{"another's token", creds{plain.id, plain.secret, chained.token}, nil, 400},
		{"another action", plain, []string{"Action", "login"}, 400},
		{"a parameter that is none", plain, []string{"SessionType", "json"}, 400},
		{"no session", plain, []string{"Session", ""}, 400},
		{"more in the session", plain, []string{"Session", `{"sessionId":"a","sessionKey":"b","sessionToken":"c","x":1}`}, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, token := d.federate(t, tt.who, tt.kv...)
			if status != tt.status || (token != "") != (status == 200) {
				t.Errorf("%d, token %q", status, token)
			}
		})
	}
	if got := d.SignInCalls(); len(got) < 10 || !cmp.Equal(got[0], SignInCall{plain.id, "", 200}) {
		t.Errorf("recorded %+v", got[0])
	}
	if strings.Contains(d.log.String(), plain.secret) || strings.Contains(d.log.String(), plain.token) {
		t.Error("the log holds a secret")
	}
	d.clock.add(16 * time.Minute)
	if status, _ := d.federate(t, plain); status != 400 {
		t.Errorf("expired: %d", status)
	}
	if status, _ := d.get(t, d.Console.URL()+"/federation?Action=getSigninToken&Session=%7B%7D"); status != 405 {
		t.Errorf("credentials in an address: %d", status)
	}
}

// TestConsole signs in, is refused a second identity, signs out on the way to it, and sees the end.
func TestConsole(t *testing.T) {
	d := openDoor(t)
	one, two := d.call(t, broker, assumeForm("DurationSeconds", "7200")).creds(), d.call(t, broker, assumeForm("RoleSessionName", "bob@corp.example", "SourceIdentity", "bob@corp.example")).creds()
	token := func(c creds, kv ...string) string {
		t.Helper()
		status, v := d.federate(t, c, kv...)
		if status != 200 {
			t.Fatal(status)
		}
		return v
	}
	home := d.Console.URL() + "/s3/home?region=eu-west-1"
	if _, body := d.get(t, home); !strings.Contains(body, "Nobody is signed in") {
		t.Errorf("before: %s", body)
	}
	for name, address := range map[string]string{
		"another host":   d.loginURL(token(one), "https://evil.example/"),
		"its own prefix": d.loginURL(token(one), d.Console.URL()+".evil.example/"),
		"a user":         d.loginURL(token(one), strings.Replace(d.Console.URL(), "//", "//evil@", 1)),
		"no token":       d.loginURL("", home),
		"junk":           d.loginURL("junk", home),
		"no issuer":      strings.Replace(d.loginURL(token(one), home), "Issuer=https", "Issuer=&x=https", 1),
	} {
		if status, body := d.get(t, address); status != 400 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	first := d.loginURL(token(one, "SessionDuration", "3600"), home)
	if status, body := d.get(t, first); status != 200 || !strings.Contains(body, `id="arn">arn:aws:sts::222222222222:assumed-role/admin/ada@corp.example<`) || !strings.Contains(body, `id="page">/s3/home?region=eu-west-1<`) {
		t.Errorf("%d %s", status, body)
	}
	next := d.loginURL(token(two), home)
	if status, body := d.get(t, next); status != 400 || !strings.Contains(body, "You must first log out") {
		t.Errorf("%d %s", status, body)
	}
	if _, body := d.get(t, d.Console.URL()+"/oauth?Action=logout&redirect_uri="+url.QueryEscape(next)); !strings.Contains(body, "bob@corp.example") {
		t.Errorf("after the logout: %s", body)
	}
	if status, _ := d.get(t, d.Console.URL()+"/oauth?Action=logout&redirect_uri=https%3A%2F%2Fevil.example%2Ffederation"); status != 200 {
		t.Errorf("a logout leads to another host: %d", status)
	}
	if status, _ := d.get(t, first); status != 400 {
		t.Errorf("a token was taken twice: %d", status)
	}
	late := d.loginURL(token(one), home)
	d.clock.add(signInLife)
	if status, _ := d.get(t, late); status != 400 {
		t.Errorf("a token was taken late: %d", status)
	}
	if _, body := d.get(t, d.loginURL(token(one, "SessionDuration", "900"), home)); !strings.Contains(body, "ada@corp.example") {
		t.Errorf("got %s", body)
	}
	d.clock.add(15 * time.Minute)
	if _, body := d.get(t, home); !strings.Contains(body, "Nobody is signed in") {
		t.Errorf("after its end: %s", body)
	}
}

func TestConsoleOnLoopbackAlone(t *testing.T) {
	b := start(t, nil)
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := NewConsole(b.Server, l); err == nil {
		t.Error("it opens to everybody")
	}
}
