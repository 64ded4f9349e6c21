package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sega/broker/api"
	"sega/keychain/atomicfile"
)

// Lists that completion offers from. They are what the broker said last, kept for the shell: nothing
// is decided by them.
const (
	rolesList     = "roles"
	hostsList     = "hosts"     // that one may open
	inventoryList = "inventory" // all hosts: whom it is to be revoked by may open none
	sessionsList  = "sessions"
	usersList     = "users"
	keysList      = "keys" // one's own registered ones
)

const listsDir = "lists"

// listsTime is how long a login waits for its lists, for those who wait for the login.
const listsTime = 3 * time.Second

// list is a file of names.
type list struct {
	Broker  string      `json:"broker"` // its origin
	Written time.Time   `json:"written"`
	Entries []candidate `json:"entries"`
}

// candidate is a name that may be typed.
type candidate struct {
	Name   string   `json:"name"`
	Text   string   `json:"text,omitempty"`   // what a person reads beside it
	Logins []string `json:"logins,omitempty"` // of a host
}

// listsAge is how old a list may be: sessions come and go, and what is offered should be there.
func listsAge(name string) time.Duration {
	if name == sessionsList {
		return 24 * time.Hour
	}
	return 90 * 24 * time.Hour
}

// keepList writes a list. Where it cannot, completion offers nothing, which is no reason to fail.
func (s *session) keepList(name string, entries []candidate) {
	data, err := json.Marshal(list{Broker: s.Origin(), Written: s.app.now().UTC(), Entries: entries})
	if err == nil {
		_ = s.app.replaceFile(filepath.Join(listsDir, name+".json"), data)
	}
}

// readList returns what a list of the broker in use holds; nothing where it is missing, damaged, old or
// another broker's. It asks nobody and waits for nothing.
func (a *app) readList(name string) []candidate {
	dir, err := a.home()
	if err != nil {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(dir, listsDir, name+".json"))
	if err != nil {
		return nil
	}
	v := parseList(data)
	if origin, err := a.origin(""); err != nil || origin != v.Broker || a.now().Sub(v.Written) > listsAge(name) {
		return nil
	}
	return v.Entries
}

func parseList(data []byte) list {
	var v list
	if json.Unmarshal(data, &v) != nil {
		return list{}
	}
	return v
}

// dropLists removes all lists: they are of a login.
func (a *app) dropLists() error {
	dir, err := a.home()
	if err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, listsDir))
}

// fetchLists asks the broker for the lists that everybody has. It ends soon, with or without them.
func (a *app) fetchLists(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, listsTime)
	defer cancel()
	s, err := a.open(ctx)
	if err != nil {
		return
	}
	if v, err := s.Roles(ctx); err == nil {
		s.listRoles(v)
	}
	if v, err := s.Hosts(ctx); err == nil {
		s.listHosts(v)
	}
}

// listRoles keeps the roles that may be used.
func (s *session) listRoles(v api.Roles) {
	var entries []candidate
	for _, r := range v.Roles {
		if r.Allowed {
			entries = append(entries, candidate{Name: r.Name, Text: strings.TrimSpace(r.Account + " " + r.Description)})
		}
	}
	s.keepList(rolesList, entries)
}

// listHosts keeps the hosts that may be opened, and as whom, and all others beside them.
func (s *session) listHosts(v api.Hosts) {
	var allowed, all []candidate
	for _, h := range v.Hosts {
		host := candidate{Name: h.Name, Text: strings.TrimSpace(strings.Join(h.Logins, ",") + " " + labels(h.Labels)), Logins: h.Logins}
		if all = append(all, host); h.Allowed {
			allowed = append(allowed, host)
		}
	}
	s.keepList(hostsList, allowed)
	s.keepList(inventoryList, all)
}

// listSessions keeps what is live, and whose it is.
func (s *session) listSessions(v api.Sessions) {
	var sessions, users []candidate
	seen := map[string]bool{}
	for _, i := range v.Sessions {
		sessions = append(sessions, candidate{Name: i.ID, Text: strings.TrimSpace(personName(i.Person) + " " + at(i))})
		user := candidate{Name: personName(i.Person), Text: i.Person.Name}
		if i.Kind == "machine" {
			user = candidate{Name: i.Person.Subject, Text: i.Person.Email}
		}
		if !seen[user.Name] {
			seen[user.Name] = true
			users = append(users, user)
		}
	}
	s.keepList(sessionsList, sessions)
	s.keepList(usersList, users)
}

// replaceFile is writeFile for what may be lost when the machine stops.
func (a *app) replaceFile(name string, data []byte) error {
	path, err := a.path(name)
	if err != nil {
		return err
	}
	return atomicfile.ReplaceSoon(path, data, 0o600)
}
