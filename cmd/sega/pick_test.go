package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/cmd/sega/picker"
)

// TestPickable: the picker shows what the broker says of roles, and how much each was used here.
func TestPickable(t *testing.T) {
	a, _, _ := testApp(t)
	must(t, a.replaceFile(usesFile, []byte(`{"dev":{"count":3,"last":"2030-01-02T12:00:00Z"},"gone":{"count":1,"last":"2030-01-02T12:00:00Z"}}`)))
	got := a.pickable(api.Roles{Roles: []api.Role{
		{Name: "dev", Account: "1", Description: "d", MaxSeconds: 5400, Mode: api.ModeAssumeRole, Allowed: true, Needs: []string{}},
		{Name: "prod", MaxSeconds: 43200, Mode: api.ModeWebIdentity, Allowed: true, Needs: []string{api.NeedFresh, api.NeedReason, api.NeedTicket, "something-new"}},
		{Name: "root", Why: "it needs group x"}, {Name: "odd"},
	}})
	want := []picker.Role{
		{Name: "dev", Account: "1", Description: "d", Max: "1h30m", Mode: "assume-role", Use: 3},
		{Name: "prod", Max: "12h", Mode: "web-identity", NeedsReason: true, NeedsTicket: true, NeedsFresh: true},
		{Name: "root", Max: "0s", Refused: "it needs group x"}, {Name: "odd", Max: "0s", Refused: "policy does not permit it"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestRoleWithoutTerminal: where no screen can be shown, ROLE is missing, and nothing is asked of anybody.
func TestRoleWithoutTerminal(t *testing.T) {
	for _, line := range []string{"exec", "exec -- true", "exec --reason x", "env", "env --format json", "credential-process"} {
		a, out, talk := testApp(t, "TERM=dumb")
		if code := run(t.Context(), strings.Fields(line), a); code != exitUsage || !strings.Contains(talk.String(), "ROLE is missing") || out.Len() > 0 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", line, code, out, talk)
		}
	}
}
