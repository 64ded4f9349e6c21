package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// listing is a person with a broker who has listed something.
func listing(t *testing.T) *session {
	t.Helper()
	s := fakeBroker(t, api.Roles{})
	s.pin(t, api.Configuration{Origin: s.Origin()})
	s.listRoles(api.Roles{Roles: []api.Role{{Name: "dev-admin", Account: "111111111111", Description: "all of\tdevelopment\x1b[2J", Allowed: true}, {Name: "prod", Allowed: true},
		{Name: "root", Why: "never"}, {Name: "evil role", Allowed: true}, {Name: "$(reboot)", Allowed: true}, {Name: "-evil", Allowed: true}, {Name: "a\nb", Allowed: true}}})
	s.listHosts(api.Hosts{Hosts: []api.Host{{Name: "web-1", Logins: []string{"deploy", "root"}, Labels: map[string]string{"env": "dev"}, Allowed: true},
		{Name: "web-2", Logins: []string{"deploy"}, Allowed: true}, {Name: "db-1", Why: "no"}}})
	alice := api.Person{Subject: "00ualice", Email: "alice@example.com", Name: "Alice"}
	s.listSessions(api.Sessions{Sessions: []api.SessionInfo{{ID: "ses_1", Kind: "login", Person: alice}, {ID: "ssh_1", Kind: "ssh", Person: alice, Host: "web-1", Login: "root"},
		{ID: "ses_2", Kind: "machine", Person: api.Person{Subject: "mch_1", Email: "bastion-1"}}}})
	s.keepList(keysList, []candidate{{Name: "laptop", Text: "ssh-ed25519"}})
	return s
}

// TestLists: what the broker said is there for the broker in use, for a time, and until it is dropped.
func TestLists(t *testing.T) {
	s := listing(t)
	want := []candidate{{Name: "web-1", Text: "deploy,root env=dev", Logins: []string{"deploy", "root"}}, {Name: "web-2", Text: "deploy", Logins: []string{"deploy"}}}
	if diff := cmp.Diff(want, s.app.readList(hostsList)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	wantUsers := []candidate{{Name: "alice@example.com", Text: "Alice"}, {Name: "mch_1", Text: "bastion-1"}}
	if diff := cmp.Diff(wantUsers, s.app.readList(usersList)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for name, c := range map[string]struct {
		change func(a *app)
		left   bool
	}{
		"as it is":                       {func(*app) {}, true},
		"the same broker by name":        {func(a *app) { environment(a, "SEGA_BROKER", s.Origin()) }, true},
		"another broker":                 {func(a *app) { environment(a, "SEGA_BROKER", "https://other.example") }, false},
		"sessions two days later":        {func(a *app) { a.now = func() time.Time { return noon.Add(48 * time.Hour) } }, false},
		"a clock that went back":         {func(a *app) { a.now = func() time.Time { return noon.Add(-48 * time.Hour) } }, true},
		"a folder of somebody else's":    {func(a *app) { environment(a, "SEGA_HOME", t.TempDir()) }, false},
		"dropped, as a logout does":      {func(a *app) { must(t, a.dropLists()) }, false},
		"dropped when there are no more": {func(a *app) { must(t, a.dropLists()) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := *listing(t).app
			if name == "the same broker by name" || name == "another broker" {
				a = *s.app
			}
			c.change(&a)
			if got := a.readList(sessionsList); (len(got) > 0) != c.left {
				t.Errorf("there is %v", got)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// environment changes one variable of an app.
func environment(a *app, name, value string) {
	before := a.getenv
	a.getenv = func(n string) string {
		if n == name {
			return value
		}
		return before(n)
	}
}

// TestListsArePrivate: nobody else reads them, and a damaged one offers nothing.
func TestListsArePrivate(t *testing.T) {
	a := listing(t).app
	for _, name := range []string{rolesList, hostsList, sessionsList, usersList} {
		path := filepath.Join(a.getenv("SEGA_HOME"), listsDir, name+".json")
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		must(t, os.WriteFile(path, []byte(`{"broker":"x","entries":[`), 0o600))
		if got := a.readList(name); got != nil {
			t.Errorf("%s, damaged: %v", name, got)
		}
	}
}

// FuzzParseList: whatever stands in the file, nothing but plain words is offered.
func FuzzParseList(f *testing.F) {
	data, err := json.Marshal(list{Broker: "https://x", Written: noon, Entries: []candidate{{Name: "dev-admin", Text: "a\tb"}, {Name: "$(x)"}, {Name: "-x"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, e := range parseList(data).Entries {
			for _, c := range offer(nil, e.Name, e.Text, "") {
				for i, r := range c {
					if r == '\n' || r < ' ' && r != '\t' || i == 0 && r == '-' {
						t.Errorf("offers %q", c)
					}
				}
			}
		}
	})
}
