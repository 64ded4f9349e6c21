package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/cmd/sega/agent"
	"sega/cmd/sega/endpoint"
	"sega/keychain/secret"
)

// given are credentials for an hour, of a login of eight.
func given() granted {
	return granted{Credentials: api.Credentials{AccessKeyID: "ASIANEW", SecretAccessKey: secret.FromString("new-secret"), SessionToken: secret.FromString("new-token"),
		Expiration: noon.Add(time.Hour), Role: "dev-admin", AssumedRoleARN: "arn:aws:sts::123456789012:assumed-role/dev-admin/alice"}, LoginID: "ses_1", LoginEnds: noon.Add(8 * time.Hour)}
}

var givenEndpoint = &agent.Endpoint{URL: "http://127.0.0.1:4000/child/x", Token: secret.FromString("sega_ep_x")}

// TestDelivery: either an endpoint or keys, never both: a key beside an endpoint would be what counts.
func TestDelivery(t *testing.T) {
	common := map[string]string{"SEGA_ROLE": "dev-admin", "SEGA_SESSION": "ses_1"}
	keys := map[string]string{"AWS_ACCESS_KEY_ID": "ASIANEW", "AWS_SECRET_ACCESS_KEY": "new-secret", "AWS_SESSION_TOKEN": "new-token", "AWS_CREDENTIAL_EXPIRATION": "2030-01-02T13:00:00Z"}
	renewed := map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:4000/child/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "sega_ep_x"}
	for name, c := range map[string]struct {
		at    *agent.Endpoint
		fixed bool
		want  map[string]string
	}{
		"endpoint":         {givenEndpoint, false, renewed},
		"asked for keys":   {givenEndpoint, true, keys},
		"no endpoint":      {nil, false, keys},
		"neither, but yes": {nil, true, keys},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, talk := testApp(t)
			got := map[string]string{}
			for _, v := range a.delivery(given(), c.at, c.fixed).variables() {
				got[v[0]] = v[1]
			}
			want := map[string]string{}
			for _, m := range []map[string]string{common, c.want} {
				for k, v := range m {
					want[k] = v
				}
			}
			if diff := cmp.Diff(want, got); diff != "" || talk.Len() > 0 {
				t.Errorf("-want +got\n%s%s", diff, talk)
			}
		})
	}
}

func TestNeed(t *testing.T) {
	for name, c := range map[string]struct {
		d    delivery
		need time.Duration
		code int
		says string
	}{
		"nothing is needed":      {delivery{granted: given()}, 0, 0, ""},
		"keys last":              {delivery{granted: given()}, time.Hour, 0, ""},
		"keys end":               {delivery{granted: given()}, 2 * time.Hour, exitDenied, "--duration"},
		"asked-for keys end":     {delivery{granted: given(), asked: true}, time.Hour + time.Second, exitDenied, "without --env"},
		"the endpoint renews":    {delivery{granted: given(), endpoint: givenEndpoint}, 8 * time.Hour, 0, ""},
		"the login ends":         {delivery{granted: given(), endpoint: givenEndpoint}, 9 * time.Hour, exitLogin, "in 8h, and 9h are needed\n  run: sega login"},
		"the login is not known": {delivery{granted: granted{Credentials: given().Credentials}, endpoint: givenEndpoint}, time.Minute, exitLogin, "in 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.d.lasts(noon, c.need)
			if exitCode(err) != c.code || err != nil && !strings.Contains(explained(err), c.says) {
				t.Errorf("%d: %v", exitCode(err), err)
			}
		})
	}
	for in, want := range map[string]time.Duration{"": 0, "2h": 2 * time.Hour, "90m": 90 * time.Minute, "5400": 90 * time.Minute, "1s": time.Second} {
		if got, err := parseNeed(in); got != want || err != nil {
			t.Errorf("%q: %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"0", "-1h", "2d", "x", " 1h", "99999999999999999999", "NaN"} {
		if got, err := parseNeed(in); exitCode(err) != exitUsage {
			t.Errorf("%q: %s, %v", in, got, err)
		}
	}
}

func TestProcessForm(t *testing.T) {
	text, err := endpoint.ProcessForm(given().Credentials)
	if err != nil || strings.Count(string(text), "\n") != 1 {
		t.Fatalf("%v: %q", err, text)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"Version": 1.0, "AccessKeyId": "ASIANEW", "SecretAccessKey": "new-secret", "SessionToken": "new-token", "Expiration": "2030-01-02T13:00:00Z", "AccountId": "123456789012"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestProcessCallsItself: a profile that leads back to credential-process ends at the second call.
func TestProcessCallsItself(t *testing.T) {
	t.Setenv(processMarker, "")
	a, out, talk := testApp(t, processMarker+"=1")
	if code := run(t.Context(), []string{"credential-process", "dev-admin"}, a); code != exitFailed || out.Len() > 0 || !strings.Contains(talk.String(), "started by what it had started itself") {
		t.Errorf("exit %d, out %q: %s", code, out, talk)
	}
	if a, _, talk := testApp(t); run(t.Context(), []string{"credential-process", "dev-admin"}, a) != exitLogin {
		t.Errorf("the first call: %s", talk)
	}
}
