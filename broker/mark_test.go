package broker

import (
	"context"
	"encoding/base64"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

func (w *world) machine() caller {
	w.t.Helper()
	return w.login(func(s *state.Session) {
		s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, "mch_1", "bastion-1"
	})
}

func mark(t testing.TB, key *audit.LogKey, tree tlog.Tree) string {
	t.Helper()
	msg, err := audit.SignCheckpoint(key.Name(), tree, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(msg)
}

// follow asks for the feed with a mark, from a server that drains, so that it ends when it has begun.
func (p caller) follow(mark string) (int, string) {
	p.w.t.Helper()
	p.w.s.Drain()
	srv := httptest.NewServer(p.w.s)
	defer srv.Close()
	r := p.request("GET", api.RouteFeed+"?after=-1", nil)
	r.Header.Set(api.HeaderCheckpoint, mark)
	r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", srv.Listener.Addr().String()
	res, err := srv.Client().Do(r)
	if err != nil {
		p.w.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestCheckMark (R10): a mark that the log bears out lets the feed begin; one that it does not have
// voids everything, once; one that the log never signed does nothing.
func TestCheckMark(t *testing.T) {
	lost := tlog.RecordHash([]byte("lost"))
	for name, c := range map[string]struct {
		mark    func(t *testing.T, key *audit.LogKey, tree tlog.Tree, first tlog.Hash) string
		status  int
		recover bool
	}{
		"none": {func(*testing.T, *audit.LogKey, tlog.Tree, tlog.Hash) string { return "" }, 200, false},
		"equal": {func(t *testing.T, key *audit.LogKey, tree tlog.Tree, _ tlog.Hash) string {
			return mark(t, key, tree)
		}, 200, false},
		"behind": {func(t *testing.T, key *audit.LogKey, _ tlog.Tree, first tlog.Hash) string {
			return mark(t, key, tlog.Tree{N: 1, Hash: first})
		}, 200, false},
		"empty": {func(t *testing.T, key *audit.LogKey, _ tlog.Tree, _ tlog.Hash) string {
			return mark(t, key, tlog.Tree{Hash: audit.EmptyRoot()})
		}, 200, false},
		"ahead": {func(t *testing.T, key *audit.LogKey, tree tlog.Tree, _ tlog.Hash) string {
			return mark(t, key, tlog.Tree{N: tree.N + 100, Hash: lost})
		}, 409, true},
		"of another history": {func(t *testing.T, key *audit.LogKey, _ tlog.Tree, _ tlog.Hash) string {
			return mark(t, key, tlog.Tree{N: 1, Hash: lost})
		}, 409, true},
		"forged": {func(t *testing.T, key *audit.LogKey, tree tlog.Tree, _ tlog.Hash) string {
			forger, err := audit.GenerateLogKey(key.Name())
			if err != nil {
				t.Fatal(err)
			}
			return mark(t, forger, tlog.Tree{N: tree.N + 100, Hash: lost})
		}, 400, false},
		"cut off": {func(t *testing.T, key *audit.LogKey, tree tlog.Tree, _ tlog.Hash) string {
			return mark(t, key, tlog.Tree{N: tree.N + 100, Hash: lost})[:40]
		}, 400, false},
		"not base64": {func(*testing.T, *audit.LogKey, tlog.Tree, tlog.Hash) string { return "!" }, 400, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alice, bastion := w.login(), w.machine()
			alice.assume("dev-admin")
			_, tree := w.db.Head()
			first, err := store.Root(t.Context(), w.db, 1)
			if err != nil {
				t.Fatal(err)
			}
			status, body := bastion.follow(c.mark(t, w.logKey, tree, first))
			if status != c.status || status == 200 && !strings.HasPrefix(body, `{"type":"trust"`) {
				t.Errorf("%d: %s", status, body)
			}
			recovered := slices.Contains(w.trail(), "log.recovery success")
			if recovered != c.recover || w.current(alice) == c.recover || w.current(bastion) == c.recover {
				t.Errorf("recovered: %v, alice's session stands: %v, the bastion's: %v", recovered, w.current(alice), w.current(bastion))
			}
		})
	}
}

func (w *world) current(p caller) (ok bool) {
	w.t.Helper()
	err := w.db.Read(context.Background(), func(ctx context.Context, tx store.Querier) (err error) {
		c := call{session: p.session}
		ok, err = state.Current(ctx, tx, c.bearer())
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return ok
}

// TestRecoverOnce: bastions that all come with the same mark void everything once, and serials go
// on in a new era.
func TestRecoverOnce(t *testing.T) {
	w := newWorld(t)
	old, err := w.s.serials.next(t.Context(), caAccess)
	if err != nil {
		t.Fatal(err)
	}
	lost := mark(t, w.logKey, tlog.Tree{N: 100, Hash: tlog.RecordHash([]byte("lost"))})
	for range 3 {
		bastion := w.machine()
		if status, body := bastion.follow(lost); status == 200 || !strings.Contains(body, "restored from a backup") {
			t.Errorf("%d: %s", status, body)
		}
	}
	if diff := cmp.Diff([]string{"log.recovery success"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	e := w.events()[0]
	if e.Actor.Kind != "system" || !strings.Contains(string(e.Details), `"remembered_size":100`) || !strings.Contains(string(e.Details), `"restored_size":0`) || !strings.Contains(string(e.Details), "bastion-1") {
		t.Errorf("event %+v, %s", e, e.Details)
	}
	serial, err := w.s.serials.next(t.Context(), caAccess)
	if err != nil || serial.Era() <= old.Era() || serial.Counter() != 1 {
		t.Errorf("serial %d/%d, %v", serial.Era(), serial.Counter(), err)
	}
}
