package main

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/keychain/secret"
)

// TestCached: what is cached is of the login that is stored, and goes some time after its end.
func TestCached(t *testing.T) {
	s := fakeBroker(t, api.Empty{})
	s.kept.Session.LoginID = "ses_1"
	store, err := s.app.secrets()
	must(t, err)
	names := func() (out []string) {
		must(t, store.Update(func(items map[string]secret.Secret) error {
			out = slices.Sorted(maps.Keys(items))
			return nil
		}))
		return out
	}
	put := func(name string, end time.Time) {
		c := given().Credentials
		c.Expiration = end
		raw, err := json.Marshal(c.Wire())
		must(t, err)
		must(t, store.Put(name, secret.New(raw)))
	}
	login := func(id string) {
		other := s.saved()
		other.Session.LoginID = id
		sealed, err := other.seal()
		must(t, err)
		must(t, store.Put(itemSession, sealed))
	}
	must(t, s.cache(store, "aws/dev/1", given().Credentials))
	if got := names(); len(got) > 0 {
		t.Errorf("after a logout: %v", got)
	}
	login("ses_2")
	must(t, s.cache(store, "aws/dev/1", given().Credentials))
	if diff := cmp.Diff([]string{"session"}, names()); diff != "" {
		t.Errorf("after another login:\n%s", diff)
	}
	login("ses_1")
	put("aws/old/1", noon.Add(-endedFor-time.Second))
	put("aws/dev/2", noon.Add(-endedFor))
	must(t, store.Put("aws/odd/1", secret.FromString("x")))
	must(t, s.cache(store, "aws/dev/1", given().Credentials))
	if diff := cmp.Diff([]string{"aws/dev/1", "aws/dev/2", "session"}, names()); diff != "" {
		t.Error(diff)
	}
}
