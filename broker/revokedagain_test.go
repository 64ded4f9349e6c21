package broker

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/state"
)

// stood returns what stands revoked, as a file would bring it back.
func (w *world) stood() *state.Revoked {
	w.t.Helper()
	var now state.Revoked
	err := w.db.Read(context.Background(), func(ctx context.Context, tx store.Querier) (err error) {
		now, err = state.RevokedNow(ctx, tx, state.Revoked{})
		return err
	})
	raw, err2 := json.Marshal(now)
	var back state.Revoked
	if err := errors.Join(err, err2, json.Unmarshal(raw, &back)); err != nil {
		w.t.Fatal(err)
	}
	return &back
}

// TestRevokedAgain (I3, R10): what stood revoked when the newest mark was noted stands again with the recovery of a database
// that was set back, once; where nobody knows what stood, the event says that.
func TestRevokedAgain(t *testing.T) {
	w := newWorld(t)
	soon := w.clock.now().Add(time.Hour)
	w.write(func(ctx context.Context, tx store.Tx) error {
		_, err := state.SeeSubject(ctx, tx, issuer, "mallory", "mallory@example.com", "Mallory", w.clock.now())
		return errors.Join(err,
			state.BlockSubject(ctx, tx, issuer, "mallory", issuer, "sam", "leaves"),
			state.BlockSubject(ctx, tx, issuer, "never-here", issuer, "sam", "must not"),
			state.BlockHost(ctx, tx, state.HostBlock{Host: "web-1", Index: 3, Issuer: issuer, Subject: "sam", Reason: "owned", At: w.clock.now()}),
			state.RevokeCert(ctx, tx, state.RevokedCert{Profile: "host", Serial: 1<<63 + 7, ValidBefore: soon, Index: 3, Reason: "owned"}),
			state.RevokeCert(ctx, tx, state.RevokedCert{Profile: "access", Serial: 9, ValidBefore: soon, Index: 4}))
	})
	all := *w.stood()
	if len(all.People) != 2 || len(all.Hosts) != 1 || len(all.Certs) != 1 {
		t.Fatalf("stands revoked: %+v", all)
	}
	for name, tc := range map[string]struct {
		lost    bool
		stood   *state.Revoked
		want    state.Revoked
		details string
	}{
		"set back":         {true, &all, all, `{"number":4,"people":["` + issuer + ` mallory mallory@example.com","` + issuer + ` never-here "],"hosts":["web-1"],"certificates":["host 9223372036854775815"]}`},
		"nobody knows":     {true, nil, state.Revoked{}, `null`},
		"nothing stood":    {true, &state.Revoked{}, state.Revoked{}, `{"number":0,"people":[],"hosts":[],"certificates":[]}`},
		"was not set back": {false, &all, state.Revoked{}, ``},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			mark, tree := w.db.Head()
			if tc.lost {
				var err error
				if mark, err = audit.SignCheckpoint(w.logKey.Name(), tlog.Tree{N: tree.N + 5, Hash: tlog.RecordHash([]byte("lost"))}, w.logKey); err != nil {
					t.Fatal(err)
				}
			}
			w.config.Mark, w.config.Revoked = mark, tc.stood
			w.restart()
			ignore := cmp.Options{cmpopts.IgnoreUnexported(state.Revoked{}), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(state.HostBlock{}, "Index"), cmpopts.IgnoreFields(state.RevokedCert{}, "Index")}
			if diff := cmp.Diff(tc.want, *w.stood(), ignore); diff != "" {
				t.Errorf("stands revoked (-want +got):\n%s", diff)
			}
			var said string
			for _, e := range w.events() {
				if e.Kind == audit.KindLogRecovery {
					said = string(e.Details)
				}
			}
			if tc.details == "" && said == "" {
				return
			}
			var d struct {
				Again json.RawMessage `json:"revoked_again"`
			}
			var got, want any
			if err := errors.Join(json.Unmarshal([]byte(said), &d), json.Unmarshal(d.Again, &got), json.Unmarshal([]byte(tc.details), &want)); err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the event (-want +got):\n%s", diff)
			}
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.UnblockSubject(ctx, tx, issuer, "mallory")
			})
			w.restart() // with the same mark, which is known by now
			if err := w.db.Read(t.Context(), func(ctx context.Context, tx store.Querier) error {
				s, err := state.SubjectByID(ctx, tx, issuer, "mallory")
				if s.Blocked {
					t.Error("blocked once more by a mark that was known")
				}
				if errors.Is(err, state.ErrNotFound) {
					err = nil
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}
