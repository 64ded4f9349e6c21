package client

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/keychain/secret"
)

// route is one use of a method and what the broker must see of it.
type route struct {
	answer any
	call   func(*Client) (any, error)
	want   seen
}

var routeTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// onWire is the JSON of an answer, its secrets in the clear: that is how two are compared.
func onWire(t *testing.T, v any) string {
	t.Helper()
	if r, ok := v.(api.Revealer); ok {
		v = r.Wire()
	}
	j, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(j)
}

func testRoutes(t *testing.T, routes map[string]route) {
	t.Helper()
	for name, tc := range routes {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t, answers(tc.answer))
			notes := 0
			c := b.client(t, func(cfg *Config) {
				cfg.OnCheckpoint = func(note []byte) error {
					if string(note) != string(testNote) {
						return fmt.Errorf("note %q", note)
					}
					notes++
					return nil
				}
			})
			got, err := tc.call(c)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(onWire(t, tc.answer), onWire(t, got)); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff([]seen{tc.want}, b.requests()); d != "" {
				t.Error(d)
			}
			if notes == 0 {
				t.Error("the checkpoint was not handed on")
			}
		})
	}
}

func TestRoutesOfAccess(t *testing.T) {
	sec, ctx := secret.FromString(bodyCanary), context.Background()
	ses := api.Session{Token: sec, LoginID: "ses_1", Expires: routeTime}
	creds := api.Credentials{AccessKeyID: "ASIA1", SecretAccessKey: sec, SessionToken: sec, Role: "admin"}
	testRoutes(t, map[string]route{
		"configuration": {api.Configuration{Issuer: "i"}, func(c *Client) (any, error) { return c.Configuration(ctx) }, seen{Method: "GET", Path: "/.well-known/sega-configuration"}},
		"login": {ses, func(c *Client) (any, error) {
			return c.Login(ctx, api.LoginRequest{IDToken: sec, Random: "r", Method: "browser", Client: "x"})
		}, seen{Method: "POST", Path: "/v1/login", Proof: true, Body: `{"access_token":"","client":"x","id_token":"` + bodyCanary + `","method":"browser","random":"r"}`}},
		"device":      {api.DeviceStart{Handle: "h"}, func(c *Client) (any, error) { return c.DeviceStart(ctx) }, seen{Method: "POST", Path: "/v1/login/device", Proof: true, Body: "{}"}},
		"device poll": {ses, func(c *Client) (any, error) { return c.DevicePoll(ctx, api.DevicePoll{Handle: "h"}) }, seen{Method: "POST", Path: "/v1/login/device/poll", Proof: true, Body: `{"handle":"h","client":""}`}},
		"renew": {ses, func(c *Client) (any, error) { return c.Renew(ctx, api.RenewRequest{IDToken: sec}) },
			seen{Method: "POST", Path: "/v1/session/renew", Proof: true, Token: true, Body: `{"access_token":"","id_token":"` + bodyCanary + `"}`}},
		"status": {api.Status{LoginID: "ses_1"}, func(c *Client) (any, error) { return c.Status(ctx) }, seen{Method: "GET", Path: "/v1/session", Proof: true, Token: true}},
		"logout": {api.Empty{}, func(c *Client) (any, error) { return api.Empty{}, c.Logout(ctx) }, seen{Method: "POST", Path: "/v1/logout", Proof: true, Token: true, Body: "{}"}},
		"roles":  {api.Roles{Roles: []api.Role{{Name: "a"}}}, func(c *Client) (any, error) { return c.Roles(ctx) }, seen{Method: "GET", Path: "/v1/roles", Proof: true, Token: true}},
		"credentials": {creds, func(c *Client) (any, error) { return c.Credentials(ctx, api.CredentialsRequest{Role: "admin"}) },
			seen{Method: "POST", Path: "/v1/aws/credentials", Proof: true, Token: true, Body: `{"role":"admin"}`}},
		"reuse": {api.Reuse{SecondsLeft: 900}, func(c *Client) (any, error) { return c.Reuse(ctx, api.ReuseRequest{Role: "r"}) },
			seen{Method: "POST", Path: "/v1/aws/reuse", Proof: true, Token: true, Body: `{"role":"r","access_key_id":""}`}},
		"console": {api.Console{URL: secret.FromString(bodyCanary)}, func(c *Client) (any, error) {
			return c.Console(ctx, api.ConsoleRequest{CredentialsRequest: api.CredentialsRequest{Role: "r", Chain: []string{"s"}}, Service: "s3"})
		}, seen{Method: "POST", Path: "/v1/aws/console", Proof: true, Token: true, Body: `{"role":"r","chain":["s"],"service":"s3"}`}},
		"hosts": {api.Hosts{Hosts: []api.Host{{Name: "h"}}}, func(c *Client) (any, error) { return c.Hosts(ctx) }, seen{Method: "GET", Path: "/v1/hosts", Proof: true, Token: true}},
		"session ack": {api.Empty{}, func(c *Client) (any, error) { return api.Empty{}, c.SessionAck(ctx, api.Ack{Index: 4, Closed: 2}) },
			seen{Method: "POST", Path: "/v1/session/ack", Proof: true, Token: true, Body: `{"index":4,"closed":2}`}},
		"keys":            {api.Keys{Keys: []api.Key{{ID: "key_1"}}}, func(c *Client) (any, error) { return c.Keys(ctx, "") }, seen{Method: "GET", Path: "/v1/keys", Proof: true, Token: true}},
		"somebody's keys": {api.Keys{Keys: []api.Key{}}, func(c *Client) (any, error) { return c.Keys(ctx, "a@b c&d") }, seen{Method: "GET", Path: "/v1/keys", Query: "user=a%40b+c%26d", Proof: true, Token: true}},
		"register a key": {api.Key{ID: "key_1"}, func(c *Client) (any, error) {
			return c.RegisterKey(ctx, api.RegisterKeyRequest{PublicKey: "k", Name: "n"})
		}, seen{Method: "POST", Path: "/v1/keys", Proof: true, Token: true, Body: `{"public_key":"k","name":"n","proof":{"nonce":"","signature":""}}`}},
		"certificate": {api.Certificate{Serial: 1 << 63}, func(c *Client) (any, error) {
			return c.Certificate(ctx, api.CertificateRequest{PublicKey: "k"})
		}, seen{Method: "POST", Path: "/v1/ssh/certificate", Proof: true, Token: true, Body: `{"public_key":"k"}`}},
	})
}

func TestRoutesOfSecurityReviewAndMachines(t *testing.T) {
	sec, ctx := secret.FromString(bodyCanary), context.Background()
	machine := api.MachineSession{Token: sec, SessionID: "ses_2"}
	testRoutes(t, map[string]route{
		"sessions": {api.Sessions{Sessions: []api.SessionInfo{{ID: "ssh_1"}}}, func(c *Client) (any, error) { return c.Sessions(ctx) }, seen{Method: "GET", Path: "/v1/sessions", Proof: true, Token: true}},
		"revoke": {api.Receipt{Index: 4}, func(c *Client) (any, error) { return c.Revoke(ctx, api.RevokeRequest{Subject: "user"}) },
			seen{Method: "POST", Path: "/v1/revoke", Proof: true, Token: true, Body: `{"subject":"user","id":"","reason":""}`}},
		"unblock": {api.Empty{}, func(c *Client) (any, error) { return api.Empty{}, c.Unblock(ctx, api.UnblockRequest{ID: "u"}) },
			seen{Method: "POST", Path: "/v1/unblock", Proof: true, Token: true, Body: `{"id":"u","reason":""}`}},
		"consistency": {api.Consistency{From: 3, To: 9, Proof: [][]byte{{1}}}, func(c *Client) (any, error) { return c.Consistency(ctx, 3, 9) },
			seen{Method: "GET", Path: "/v1/audit/consistency", Query: "from=3&to=9"}},
		"enroll": {api.Machine{ID: "mch_1"}, func(c *Client) (any, error) { return c.Enroll(ctx, api.EnrollRequest{Token: sec, Name: "b"}) },
			seen{Method: "POST", Path: "/v1/machines/enroll", Proof: true, Body: `{"kind":"","name":"b","token":"` + bodyCanary + `"}`}},
		"machine": {machine, func(c *Client) (any, error) { return c.MachineSession(ctx) }, seen{Method: "POST", Path: "/v1/machines/session", Proof: true, Body: "{}"}},
		"ack":     {api.Empty{}, func(c *Client) (any, error) { return api.Empty{}, c.Ack(ctx, api.Ack{Index: 4}) }, seen{Method: "POST", Path: "/v1/bastion/ack", Proof: true, Token: true, Body: `{"index":4,"closed":0}`}},
		"channel": {api.ChannelGrant{Allow: true, Event: "e"}, func(c *Client) (any, error) {
			return c.Channel(ctx, api.ChannelRequest{ID: "1", Time: routeTime, SessionID: "ssh_1", Type: api.ChannelShell})
		},
			seen{Method: "POST", Path: "/v1/bastion/channel", Proof: true, Token: true, Body: `{"id":"1","time":"2026-01-02T03:04:05Z","session_id":"ssh_1","channel":0,"type":"shell"}`}},
		"hop":   {api.Hop{SessionID: "ssh_1"}, func(c *Client) (any, error) { return c.Hop(ctx, api.HopRequest{AccessSerial: 7}) }, seen{Method: "POST", Path: "/v1/bastion/hop", Proof: true, Token: true, Body: `{"access_serial":"7","access_key":"","host":"","login":"","source":"","hop_key":"","route":""}`}},
		"front": {api.Certificate{Serial: 2}, func(c *Client) (any, error) { return c.Front(ctx, api.FrontRequest{PublicKey: "k"}) }, seen{Method: "POST", Path: "/v1/bastion/front", Proof: true, Token: true, Body: `{"public_key":"k"}`}},
		"report": {api.Empty{}, func(c *Client) (any, error) {
			return api.Empty{}, c.Report(ctx, []api.Report{{ID: "1", Time: routeTime}})
		},
			seen{Method: "POST", Path: "/v1/bastion/events", Proof: true, Token: true, Body: `[{"id":"1","time":"2026-01-02T03:04:05Z","kind":"","outcome":"","session_id":""}]`}},
	})
}
