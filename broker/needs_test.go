package broker

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/broker/state"
)

// TestRolesSayWhatTheyNeed: a list of roles names the terms that its asker has not met, and only
// those; a role that is not allowed has none.
func TestRolesSayWhatTheyNeed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*state.Session)
		want   map[string][]string
	}{
		"after a login": {func(*state.Session) {}, map[string][]string{"dev-admin": {}, "reasoned": {api.NeedReason}, "ticketed": {api.NeedTicket}, "fresh": {}, "frozen": {}, "other": {}}},
		"an hour later": {func(s *state.Session) { s.AuthTime = s.AuthTime.Add(-time.Hour) },
			map[string][]string{"dev-admin": {}, "reasoned": {api.NeedReason}, "ticketed": {api.NeedTicket}, "fresh": {api.NeedFresh}, "frozen": {}, "other": {}}},
		"of another group": {func(s *state.Session) { s.Groups = []string{"sales"} },
			map[string][]string{"dev-admin": {}, "reasoned": {}, "ticketed": {}, "fresh": {}, "frozen": {}, "other": {}}},
	} {
		t.Run(name, func(t *testing.T) {
			rec := newWorld(t).login(c.change).do("GET", api.RouteRoles, nil)
			var v api.Roles
			if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil || rec.Code != 200 {
				t.Fatalf("%d, %v: %s", rec.Code, err, rec.Body)
			}
			got := map[string][]string{}
			for _, r := range v.Roles {
				got[r.Name] = r.Needs
				if r.Allowed == (r.Why != "") || !r.Allowed && len(r.Needs) > 0 {
					t.Errorf("%+v", r)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
