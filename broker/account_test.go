package broker

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

func release(s *Server, method, route string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	req := httptest.NewRequest(method, route, strings.NewReader(`{"reason":"moved","ticket":"T-1"}`))
	s.Operators().ServeHTTP(rec, req.WithContext(WithOperator(req.Context(), Operator{Subject: "uid:0", Name: "root"})))
	return rec
}

// TestReleaseAccountName: an account name goes back when nobody can come in as whose it was, and never before; each try is an event.
func TestReleaseAccountName(t *testing.T) {
	day := 25 * time.Hour
	for name, tc := range map[string]struct {
		has  func(w *world, ctx context.Context, tx store.Tx) error // what bob has beside his name
		held string                                                 // "": it is released
	}{
		"nothing": {func(*world, context.Context, store.Tx) error { return nil }, ""},
		"a login": {func(w *world, ctx context.Context, tx store.Tx) error {
			return w.bobsSession(ctx, tx, state.KindLogin, 0, "")
		}, "logged in"},
		"a key": {func(w *world, ctx context.Context, tx store.Tx) error {
			return w.bobsSession(ctx, tx, state.KindKey, 0, "")
		}, "registered key"},
		"a login of before yesterday": {func(w *world, ctx context.Context, tx store.Tx) error {
			return w.bobsSession(ctx, tx, state.KindLogin, -day, "")
		}, ""},
		"a login of today": {func(w *world, ctx context.Context, tx store.Tx) error {
			return w.bobsSession(ctx, tx, state.KindLogin, -2*time.Hour, state.EndedLogout)
		}, "last login"},
		"a revoked login of today": {func(w *world, ctx context.Context, tx store.Tx) error {
			return w.bobsSession(ctx, tx, state.KindLogin, -2*time.Hour, state.EndedRevoked)
		}, ""},
		"a certificate": {func(w *world, ctx context.Context, tx store.Tx) error {
			return state.AddCert(ctx, tx, state.Cert{Profile: "access", Serial: 1, Bearer: state.Bearer{Issuer: issuer, Subject: "bob"}, ValidBefore: w.clock.now().Add(time.Minute)})
		}, "certificate"},
		"a certificate that has expired": {func(w *world, ctx context.Context, tx store.Tx) error {
			return state.AddCert(ctx, tx, state.Cert{Profile: "access", Serial: 1, Bearer: state.Bearer{Issuer: issuer, Subject: "bob"}, ValidBefore: w.clock.now().Add(-time.Second)})
		}, ""},
		"an SSH session": {func(w *world, ctx context.Context, tx store.Tx) error {
			id := api.NewID(api.IDSSH)
			err := state.AddSSH(ctx, tx, state.SSHSession{ID: id, Bearer: state.Bearer{LoginID: "ses_x", Issuer: issuer, Subject: "bob", Epoch: 1, Rev: 1}, Host: "web-1", Login: "bob",
				Started: w.clock.now(), NotAfter: w.clock.now().Add(time.Hour)})
			return errors.Join(err, state.SetSSHState(ctx, tx, id, state.SSHLive))
		}, "SSH session"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.write(func(ctx context.Context, tx store.Tx) error {
				_, err := state.SeeSubject(ctx, tx, issuer, "bob", "bob@example.com", "Bob", w.clock.now())
				return errors.Join(err, state.GiveAccountName(ctx, tx, "bob", issuer, "bob", w.clock.now()), tc.has(w, ctx, tx))
			})
			var view api.AccountName
			rec := release(w.s, "GET", "/account/bob")
			if err := json.Unmarshal(rec.Body.Bytes(), &view); err != nil || rec.Code != 200 || view.Subject != "bob" || view.Email != "bob@example.com" || !strings.Contains(view.Held, tc.held) || (view.Held == "") != (tc.held == "") {
				t.Errorf("%d %s: %v", rec.Code, rec.Body, err)
			}
			before, code, outcome := len(w.events()), 200, audit.Success
			if tc.held != "" {
				code, outcome = 409, audit.Denied
			}
			if rec := release(w.s, "POST", "/account/bob/release"); rec.Code != code {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			events := w.events()
			if len(events) != before+1 {
				t.Fatalf("%v", w.trail())
			}
			e := events[before]
			if e.Kind != audit.KindAccountRelease || e.Outcome != outcome || e.Actor.Sub != "uid:0" || e.Resource != "account/bob" || e.Reason != "moved" || e.Ticket != "T-1" || !strings.Contains(string(e.Details), `"bob@example.com"`) {
				t.Errorf("event %+v %s", e, e.Details)
			}
			gone := release(w.s, "GET", "/account/bob").Code == 404
			if gone != (tc.held == "") {
				t.Errorf("the name is nobody's: %v", gone)
			}
			if again := release(w.s, "POST", "/account/bob/release").Code; gone && again != 404 {
				t.Errorf("released once more: %d", again)
			}
		})
	}
}

// bobsSession gives bob a session that ends an hour after a time from now, and that has ended already unless why is empty.
func (w *world) bobsSession(ctx context.Context, tx store.Tx, kind string, from time.Duration, why string) error {
	at := w.clock.now().Add(from)
	s := state.Session{ID: api.NewID(api.IDLogin), Kind: kind, TokenHash: []byte(api.NewID("t")), Issuer: issuer, Subject: "bob", Email: "bob@example.com", Method: "browser",
		Created: at, Expires: at.Add(time.Hour), NotAfter: at.Add(time.Hour), Epoch: 1, Rev: 1}
	if err := state.AddSession(ctx, tx, s); err != nil || why == "" {
		return err
	}
	return state.EndSession(ctx, tx, s.ID, why, at.Add(time.Minute))
}

// TestReleaseAccountNameOnly: an operator's word on this machine alone.
func TestReleaseAccountNameOnly(t *testing.T) {
	w := newWorld(t)
	rec := httptest.NewRecorder()
	w.s.Operators().ServeHTTP(rec, httptest.NewRequest("POST", "/account/bob/release", strings.NewReader("{}")))
	if rec.Code != 401 {
		t.Errorf("without an operator: %d", rec.Code)
	}
	if got := w.serve(httptest.NewRequest("POST", "/account/bob/release", strings.NewReader("{}"))).Code; got != 404 {
		t.Errorf("over the network: %d", got)
	}
	if rec := release(w.s, "POST", "/account/nobody/release"); rec.Code != 404 || len(w.events()) != 0 {
		t.Errorf("of nobody: %d %s; %v", rec.Code, rec.Body, w.trail())
	}
}
