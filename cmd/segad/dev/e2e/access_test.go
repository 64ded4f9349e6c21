//go:build linux

package e2e

import (
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// testAccess holds who may do what, and that refusals say why.
func testAccess(t *testing.T, e *devtest.Env) {
	m := e.Person(mallory)
	expect(t, m.Login(), 3, "MFA")
	expect(t, m.Sega("status"), 4, "sega login")
	expect(t, m.Sega("exec", "dev-admin", "--", "true"), 4, "sega login")

	a, b, s, c := e.LoggedIn(alice), e.LoggedIn(bob), e.LoggedIn(sam), e.LoggedIn(carol)
	expect(t, a.Sega("ssh", e.Host.Name, "--", "true # access"), 0)
	expect(t, b.Sega("roles", "--json"), 0, "prod-readonly", "dev-admin")
	id := ended(t, c, "true # access")
	for name, tt := range map[string]struct {
		who  *devtest.Person
		argv []string
	}{
		"sam replays":              {s, []string{"audit", "play", id, "--reason", "test"}},
		"alice replays her own":    {a, []string{"audit", "play", id, "--reason", "test"}},
		"alice looks at bob":       {a, []string{"audit", "query", "--user", bob}},
		"alice looks at all":       {a, []string{"audit", "query", "--user", "*"}},
		"alice verifies":           {a, []string{"audit", "verify"}},
		"carol gets in":            {c, []string{"exec", "dev-admin", "--", "true"}},
		"carol opens a host":       {c, []string{"ssh", e.Host.Name, "--", "true"}},
		"carol opens it as root":   {c, []string{"ssh", e.Host.Login + "@" + e.Host.Name, "--", "true"}},
		"sam gets in":              {s, []string{"credential-process", "dev-admin"}},
		"alice revokes":            {a, []string{"revoke", "user", bob, "--yes", "--reason", "x"}},
		"carol revokes":            {c, []string{"revoke", "user", bob, "--yes", "--reason", "x"}},
		"alice unblocks":           {a, []string{"unblock", "user", bob, "--reason", "x"}},
		"alice opens another host": {a, []string{"ssh", "root@elsewhere", "--", "true"}},
	} {
		r := tt.who.Sega(tt.argv...)
		if want := 3; name == "alice opens another host" { // ssh itself reports the bastion's refusal
			want = 255
			if r.Code != want && r.Code != 3 {
				t.Errorf("%s: exit %d\n%s%s", name, r.Code, r.Out, r.Err)
			}
			continue
		} else if r.Code != want || r.Out != "" {
			t.Errorf("%s: exit %d, want %d\n%s%s", name, r.Code, want, r.Out, r.Err)
		}
	}
	expect(t, b.Sega("status"), 0, bob, "engineering, oncall", "key beside the file") // there is no desktop's store here
	if ids := sessionIDs(t, a, "login", bob); len(ids) != 0 {
		t.Errorf("alice sees the sessions %q of bob", ids)
	}
	if own, all := sessionIDs(t, a, "login", alice), sessionIDs(t, s, "login", alice); len(own) == 0 || len(all) != len(own) {
		t.Errorf("alice sees her logins %q, sam %q", own, all)
	}

	// Her own events without asking for them by name, and nobody else's.
	for _, args := range [][]string{nil, {"--user", alice}} {
		own := a.Events(args...)
		if len(own) == 0 {
			t.Error("alice does not see her own events")
		}
		for _, v := range own {
			if field(v, "actor.sub") != "00ualice" {
				t.Errorf("alice sees an event of %s", field(v, "actor.email"))
			}
		}
	}
	// Denials are events.
	var kinds []string
	for _, v := range s.Events("--outcome", "denied") {
		kinds = append(kinds, field(v, "kind")+" "+field(v, "actor.email"))
	}
	for _, want := range []string{"user.login " + mallory, "recording.read " + sam, "recording.read " + alice, "audit.read " + alice, "aws.assume " + carol, "user.revoke " + alice, "user.unblock " + alice} {
		if !contains(kinds, want) {
			t.Errorf("no denial %q among %q", want, kinds)
		}
	}
}
