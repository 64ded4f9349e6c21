//go:build linux

package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"sega/broker"
	"sega/broker/api"
)

// doors are all routes of the broker, and who is let in there.
var doors = []struct {
	method, path string
	who          string
}{
	{"GET", api.RouteConfiguration, ""}, {"GET", api.RouteHealth, ""}, {"GET", api.RouteReady, ""}, {"GET", api.RouteMetrics, ""},
	{"GET", api.RouteCheckpoint, ""}, {"GET", api.RouteConsistency, ""}, {"POST", "/v1/nowhere", ""},
	{"POST", api.RouteLogin, "key"}, {"POST", api.RouteDevice, "key"}, {"POST", api.RouteDevicePoll, "key"},
	{"POST", api.RouteEnroll, "key"}, {"POST", api.RouteMachine, "key"},
	{"POST", api.RouteRenew, "person"}, {"GET", api.RouteSession, "person"}, {"GET", api.RouteRoles, "person"},
	{"POST", api.RouteCredentials, "person"}, {"POST", api.RouteReuse, "person"}, {"GET", api.RouteHosts, "person"}, {"POST", api.RouteCertificate, "person"},
	{"GET", api.RouteSessions, "security"}, {"POST", api.RouteRevoke, "security"}, {"POST", api.RouteUnblock, "security"},
	{"GET", api.RouteEvents, "reviewer"}, {"GET", api.RouteLog, "reviewer"}, {"GET", "/v1/recordings/", "reviewer"},
	{"GET", api.RouteFeed, "bastion"}, {"POST", api.RouteAck, "bastion"}, {"POST", api.RouteHop, "bastion"},
	{"POST", api.RouteFront, "bastion"}, {"POST", api.RouteReport, "bastion"}, {"POST", api.RouteChannel, "bastion"},
	{"GET", api.RouteCount, "reviewer"}, {"GET", api.RouteSessionFeed, "person"}, {"POST", api.RouteSessionAck, "person"},
	{"GET", "/tlog/tile/", ""}, {"GET", "/tlog/tile/entries/", "reviewer"}, {"GET", api.RouteRollups, "reviewer"}, {"GET", "/v1/audit/proof/", "reviewer"},
	{"GET", api.RouteKeys, "security"}, {"POST", api.RouteKeys, "person"},
}

// seeds are good and nearly good requests of each kind of body.
func seeds(f *testing.F) {
	bodies := []any{api.CredentialsRequest{Role: "dev-admin", Seconds: 900}, api.ReuseRequest{Role: "dev-admin"}, api.HopRequest{Host: "web-1", Login: "root", AccessSerial: 1<<32 + 1},
		api.FrontRequest{Host: "web-1"}, api.ChannelRequest{ID: "x", SessionID: "ssh_x", Type: api.ChannelExec, Command: "id"}, api.ChannelRequest{ID: "x", SessionID: "ssh_x", Type: api.ChannelDirectTCP, Host: "0x7f.1", Port: 22}, []api.Report{{Kind: "session.end", ID: "x", SessionID: "ssh_x"}, {Kind: "recording.heads", ID: "y", Outcome: "success"}}, api.Ack{Index: 1 << 62, Closed: -1},
		api.RevokeRequest{Subject: "session", ID: "ssh_abcdefghijkmnpqr2345", Reason: "x"}, api.RevokeRequest{Subject: "user", ID: "sub:\x00", Reason: "x", Plan: true},
		api.UnblockRequest{ID: "alice@example.com"}, api.DevicePoll{Handle: "dev_x"}, map[string]any{"random": b64(make([]byte, 32)), "method": "browser", "id_token": "a.b.c"},
		map[string]any{"token": "x", "name": "a\u202eb", "kind": "bastion"}, api.CertificateRequest{PublicKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"}}
	bodies = append(bodies, api.RegisterKeyRequest{PublicKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f", Name: "x", Seconds: 1 << 60,
		Proof: api.KeyProof{Nonce: "x", Signature: "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n"}},
		api.HopRequest{Host: "web-1", Login: "root", AccessKey: "SHA256:x"}, api.FrontRequest{Host: "web-1", AccessKey: "SHA256:x"}, api.RevokeRequest{Subject: "key", ID: "key_x", Reason: "x"})
	for i := range doors {
		f.Add(i, "", []byte(nil))
		f.Add(i, "after=-1&limit=0&from=0&to=1&purpose=play", []byte("{}"))
		for j, b := range bodies {
			if raw, err := json.Marshal(b); err == nil && (i+j)%3 == 0 {
				f.Add(i, "ssh_abcdefghijkmnpqr2345?purpose=verify&reason=x", raw)
			}
		}
	}
	f.Add(24, "%ff%00/..?purpose=play", []byte("\xff"))
	f.Add(22, "q=since:x+user:%ff*+kind:*&after=99999999999999999999", []byte(nil))
	f.Add(22, "q=user:alice+(outcome:denied+or+-host:web-*)+%22rm%22&follow=1&after=-1", []byte(nil))
	f.Add(22, "q=screen:%22DROP+TABLE%22&newest=1&limit=3&before=9", []byte(nil))
	f.Add(len(doors)-1, "q=kind:*&by=user,day", []byte(nil))
	f.Add(len(doors)-2, "user=*", []byte(nil))
	f.Add(23, "from=-1&to=9223372036854775807", []byte(nil))
}

// FuzzRoutes sends anything to every route, as somebody whom the route lets in: no panic, and no
// answer of 5xx, since nothing that a client sends is the broker's own failure.
func FuzzRoutes(f *testing.F) {
	w := newWorld(f, func(_ *world, c *broker.Config) {
		c.Times.RevokeWait, c.Logger = time.Nanosecond, slog.New(slog.DiscardHandler)
	})
	seeds(f)
	callers := map[string]func(*world) *person{
		"key":      func(w *world) *person { return &person{world: w, key: newHolder(w.t)} },
		"person":   func(w *world) *person { return w.login("alice") },
		"security": func(w *world) *person { return w.login("sam") },
		"reviewer": func(w *world) *person { return w.login("carol") },
		"bastion": func(w *world) *person {
			m := w.machine(bastionName)
			return &person{world: w, key: m.key, token: m.token}
		},
	}
	sessions := map[string]*person{}
	f.Fuzz(func(t *testing.T, door int, query string, body []byte) {
		d := doors[(door%len(doors)+len(doors))%len(doors)]
		w := w.at(t)
		if d.who != "" && sessions[d.who] == nil {
			sessions[d.who] = callers[d.who](w)
		}
		out := w.knock(d.method, d.path, query, body, sessions[d.who])
		if out.Code >= http.StatusInternalServerError && !strings.Contains(out.Body.String(), "no indexer is connected") { // there is none in this world
			t.Errorf("%s %s: HTTP %d %s", d.method, d.path, out.Code, out.Body)
		}
		if out.Code != http.StatusOK && out.Header().Get("Content-Type") == "application/problem+json" {
			var p api.Problem
			if err := json.Unmarshal(out.Body.Bytes(), &p); err != nil || p.Kind == "" || p.Kind.Status() != out.Code || p.RequestID == "" {
				t.Errorf("%s %s: HTTP %d is no problem of ours: %s", d.method, d.path, out.Code, out.Body)
			}
		}
		if out.Code == http.StatusUnauthorized || out.Code == http.StatusForbidden {
			delete(sessions, d.who) // the input may have revoked its own session
			w.unblockAll()
		}
	})
}

// knock gives a request to the handler without a network between.
func (w *world) knock(method, path, query string, body []byte, p *person) *httptest.ResponseRecorder {
	s := shot{method: method, path: path, nonce: w.ownNonce()}
	if p != nil {
		s.key, s.token = p.key, p.token
	}
	tail, rawQuery, found := strings.Cut(query, "?")
	if !found {
		tail, rawQuery = "", query
	}
	r := httptest.NewRequest(method, "/", bytes.NewReader(body))
	follow := (&url.URL{RawQuery: rawQuery}).Query().Get(api.ParamFollow)
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Millisecond) // ends a feed, and what follows
	defer cancel()
	if !strings.HasPrefix(path, "/v1/recordings/") && !strings.HasSuffix(path, "/feed") && follow != "1" {
		ctx = w.t.Context()
	}
	r = r.WithContext(ctx)
	r.URL.Path, r.URL.RawQuery = path, rawQuery
	if strings.HasSuffix(path, "/") {
		r.URL.Path += tail
	}
	r.RemoteAddr = "127.0.0.1:1"
	if s.key != nil {
		s.path = r.URL.EscapedPath()
		r.Header.Set(api.HeaderProof, w.proof(s))
	}
	if s.token != "" {
		r.Header.Set("Authorization", "DPoP "+s.token)
	}
	out := httptest.NewRecorder()
	w.server.ServeHTTP(out, r)
	return out
}

// TestEveryRouteIsFuzzed holds the list of doors against the broker's own.
func TestEveryRouteIsFuzzed(t *testing.T) {
	w := newWorld(t)
	for _, d := range doors {
		if strings.HasSuffix(d.path, "/") {
			d.path += "ssh_abcdefghijkmnpqr2345"
		}
		a := w.send(shot{method: d.method, path: d.path})
		if known := a.problem.Kind != api.KindNotFound || !strings.Contains(a.problem.Detail, "no such endpoint"); known == (d.path == "/v1/nowhere") || a.code >= 500 {
			t.Errorf("%s %s: HTTP %d %s", d.method, d.path, a.code, a.body)
		}
		if d.who != "" && a.code != http.StatusUnauthorized {
			t.Errorf("%s %s lets in whoever shows nothing: HTTP %d", d.method, d.path, a.code)
		}
	}
}
