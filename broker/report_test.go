package broker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/state"
)

// TestReportsTogether: only what has no order among itself is appended at once.
func TestReportsTogether(t *testing.T) {
	ends := make([]api.Report, reportsTogether+1)
	for i := range ends {
		ends[i] = api.Report{Kind: "session.end", SessionID: fmt.Sprint("ssh_", i)}
	}
	pause := api.Report{Kind: "session.pause", SessionID: "ssh_0"}
	for name, tc := range map[string]struct {
		reports []api.Report
		want    int
	}{
		"one end":                       {ends[:1], 1},
		"ends":                          {ends[:3], 3},
		"as many as may be":             {ends[:reportsTogether], reportsTogether},
		"one more":                      {ends, reportsTogether},
		"one session's twice":           {[]api.Report{ends[0], ends[1], ends[0]}, 2},
		"something else":                {[]api.Report{pause, pause}, 1},
		"something else before the end": {[]api.Report{pause, ends[0]}, 1},
		"something else behind the end": {[]api.Report{ends[0], pause}, 1},
		"something else amid ends":      {[]api.Report{ends[0], ends[1], pause, ends[2]}, 2},
	} {
		if got := together(tc.reports); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// TestManyEnds: each session of a report of many has its end once, also where the bastion repeats it, and one that is
// refused takes none of the others with it.
func TestManyEnds(t *testing.T) {
	w := newWorld(t)
	alice, bastion := w.login(), w.bastionNamed("bastion-1")
	var reports []api.Report
	want := map[string]int{}
	for range 100 {
		id := api.NewID(api.IDSSH)
		w.liveSSH(id, alice, state.SSHLive)
		want[id] = 1
		reports = append(reports, api.Report{ID: audit.NewID(), Time: w.clock.now(), Kind: "session.end", Outcome: "revoked", SessionID: id, Reason: "access revoked: left", Details: json.RawMessage(`{}`)})
	}
	stranger := reports[7]
	stranger.ID, stranger.SessionID = audit.NewID(), api.NewID(api.IDSSH)
	if rec := bastion.do("POST", api.RouteReport, append([]api.Report{stranger}, reports[:20]...)); rec.Code != http.StatusNotFound {
		t.Errorf("%d: %s", rec.Code, rec.Body)
	}
	for range 2 {
		if rec := bastion.do("POST", api.RouteReport, reports); rec.Code != http.StatusOK {
			t.Fatalf("%d: %s", rec.Code, rec.Body)
		}
	}
	got := map[string]int{}
	for _, e := range w.events() {
		if e.Kind == "session.end" && e.Outcome == audit.Revoked && e.Reason == "access revoked: left" {
			got[e.SessionID]++
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ends (-want +got):\n%s", diff)
	}
	for id := range want {
		if is := w.sshState(id); is != state.SSHEnded {
			t.Errorf("%s is %s", id, is)
		}
	}
}
