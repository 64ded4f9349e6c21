package broker

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/sqlite"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/broker/api"
	"sega/broker/state"
)

// TestFindMachine: a revoked machine must be found as blocked, or nobody could unblock it.
func TestFindMachine(t *testing.T) {
	key, err := audit.GenerateLogKey("sega.test/audit")
	if err != nil {
		t.Fatal(err)
	}
	log, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "sega.db"), Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	s := &Server{Config: Config{Issuer: "https://idp.test"}}
	id := api.NewID(api.IDMachine)
	find := func(id string, change func(context.Context, store.Tx) error) (found state.Subject, err error) {
		_, err = log.Append(t.Context(), nil, func(ctx context.Context, tx store.Tx) error {
			if err := change(ctx, tx); err != nil {
				return err
			}
			found, err = s.findSubject(ctx, tx, id)
			return err
		})
		return found, err
	}
	enrolled, err := find(id, func(ctx context.Context, tx store.Tx) error {
		return state.AddMachine(ctx, tx, state.Machine{ID: id, Name: "bastion-1", Kind: "bastion", Thumbprint: "t", Created: time.Unix(1, 0)})
	})
	want := state.Subject{Issuer: machineIssuer, Subject: id, Email: "bastion-1"}
	if diff := cmp.Diff(want, enrolled); err != nil || diff != "" {
		t.Errorf("enrolled (-want +got): %v\n%s", err, diff)
	}
	revoked, err := find(id, func(ctx context.Context, tx store.Tx) error {
		return state.BlockSubject(ctx, tx, machineIssuer, id, "https://idp.test", "sam", "stolen")
	})
	want.Epoch, want.Blocked, want.BlockedIssuer, want.BlockedSub, want.BlockedReason = 2, true, "https://idp.test", "sam", "stolen"
	if diff := cmp.Diff(want, revoked); err != nil || diff != "" {
		t.Errorf("revoked (-want +got): %v\n%s", err, diff)
	}
	_, err = find("mch_unknown", func(context.Context, store.Tx) error { return nil })
	var problem *api.Problem
	if !errors.As(err, &problem) || problem.Kind != api.KindNotFound {
		t.Errorf("unknown machine: %v", err)
	}
}

// TestTheRevokedAreToldWhy: whatever they ask for, by their old session or a new login, and nobody else is told.
func TestTheRevokedAreToldWhy(t *testing.T) {
	_, alice, _, sam, bob := revokers(t)
	sam.want(200, "POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectUser, ID: "alice@example.com", Reason: "laptop stolen"}, nil)
	sam.want(200, "POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectSession, ID: bob.session.ID, Reason: "left unlocked"}, nil)
	for name, c := range map[string]struct {
		p    caller
		want string
	}{"a person": {alice, "access was revoked: laptop stolen"}, "a login": {bob, "access was revoked: left unlocked"}} {
		for _, ask := range []struct{ method, route string }{{"GET", api.RouteHosts}, {"POST", api.RouteCertificate}} {
			if p := problemOf(t, c.p.do(ask.method, ask.route, nil)); p.Kind != api.KindRevoked || p.Detail != c.want {
				t.Errorf("%s is told %q at %s, want %q", name, p.Detail, ask.route, c.want)
			}
		}
	}
	stolen := bob
	stolen.key = sam.key
	if p := problemOf(t, stolen.do("GET", api.RouteHosts, nil)); p.Kind != api.KindUnauthenticated {
		t.Errorf("under another key: %+v", p)
	}
}
