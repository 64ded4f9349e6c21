package broker

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// restored has the log say that it was restored, from one of 100 events.
func (w *world) restored() {
	w.t.Helper()
	if err := w.s.recover(context.Background(), audit.Event{}, "bastion-1", tlog.Tree{N: 100, Hash: tlog.RecordHash([]byte("lost"))}, 1, nil); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) sshState(id string) (is string) {
	w.t.Helper()
	err := w.db.Read(context.Background(), func(ctx context.Context, tx store.Querier) error {
		v, err := state.SSHByID(ctx, tx, id)
		is = v.State
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return is
}

// TestLostSession (I6, R10): the end of a session that a restore has lost lands in the log once, as the bastion's own
// word and of no session; whatever a bastion makes up beside that is refused as before.
func TestLostSession(t *testing.T) {
	fresh, known, others := api.NewID(api.IDSSH), api.NewID(api.IDSSH), api.NewID(api.IDSSH)
	for name, tc := range map[string]struct {
		restored bool
		kind, id string
		code     int
		want     string // kind and outcome of the event
	}{
		"of the gap":                {true, "session.end", fresh, 200, "session.lost unknown"},
		"nothing was lost":          {false, "session.end", fresh, 404, "request.refuse denied"},
		"a start":                   {true, "session.start", fresh, 404, "request.refuse denied"},
		"a pause":                   {true, "session.pause", fresh, 404, "request.refuse denied"},
		"a forward":                 {true, "forward.close", fresh, 404, "request.refuse denied"},
		"no ID of ours":             {true, "session.end", "ssh_live", 404, "request.refuse denied"},
		"the broker's own kind":     {true, "session.lost", fresh, 400, "request.refuse denied"},
		"its own":                   {true, "session.end", known, 200, "session.end success"},
		"another bastion's":         {true, "session.end", others, 404, "request.refuse denied"},
		"another's, nothing lost":   {false, "session.end", others, 404, "request.refuse denied"},
		"its own, and nothing lost": {false, "session.end", known, 200, "session.end success"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alice := w.login()
			if tc.restored {
				w.restored()
			}
			w.liveSSH(known, alice, state.SSHLive)
			w.liveSSH(others, alice, state.SSHLive)
			w.write(func(ctx context.Context, tx store.Tx) error {
				_, err := tx.ExecContext(ctx, `UPDATE ssh_sessions SET node='bastion-2' WHERE id=?`, others)
				return err
			})
			bastion := w.bastionNamed("bastion-1")
			said := `{"recording":{"verdict":"complete"},"bytes_in":1}`
			reports := []api.Report{{ID: audit.NewID(), Time: w.clock.now(), Kind: tc.kind, Outcome: "success", SessionID: tc.id, Reason: "closed\x1b", Source: "192.0.2.7", Details: json.RawMessage(said)}}
			for range 2 {
				if rec := bastion.do("POST", api.RouteReport, reports); rec.Code != tc.code {
					t.Fatalf("%d: %s", rec.Code, rec.Body)
				}
			}
			var got []audit.Event
			for _, e := range w.events() {
				if e.Kind+" "+string(e.Outcome) == tc.want {
					got = append(got, e)
				}
			}
			times := 1
			if tc.code != 200 { // each refusal is one
				times = 2
			}
			if len(got) != times {
				t.Fatalf("%d events %s: %v", len(got), tc.want, w.trail())
			}
			if w.sshState(others) != state.SSHLive || (w.sshState(known) == state.SSHLive) == (tc.id == known) {
				t.Errorf("states: %s, %s", w.sshState(others), w.sshState(known))
			}
			if tc.want != "session.lost unknown" {
				return
			}
			e := got[0]
			if e.Actor.Kind != "machine" || e.Actor.Email != "bastion-1" || e.Resource != "machine/bastion-1" || e.SessionID != fresh || e.Node != "bastion-1" || e.Source != "192.0.2.7" || e.Reason != lostReason {
				t.Errorf("event %+v", e)
			}
			var d, want any
			if err := json.Unmarshal(e.Details, &d); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(`{"remembered_size":100,"reported":{"outcome":"success","reason":"closed","details":`+said+`}}`), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, d); diff != "" {
				t.Errorf("details (-want +got):\n%s", diff)
			}
		})
	}
}
