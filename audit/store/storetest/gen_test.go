package storetest

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
)

// TestGenerator holds the generator to what benchmarks rely on.
func TestGenerator(t *testing.T) {
	const n = 50_000
	events := NewGeneratorOf(7, n).Events(n)
	if diff := cmp.Diff(events[:1000], NewGeneratorOf(7, n).Events(1000)); diff != "" {
		t.Errorf("one seed gives two histories: %s", diff)
	}
	kinds, ids, users, roles, hosts := map[string]int{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	tickets, texts, late := 0, 0, 0
	for i, e := range events {
		if _, err := audit.Seal(e); err != nil {
			t.Fatal(err)
		}
		kinds[e.Kind+" "+string(e.Outcome)]++
		ids[e.ID], users[e.Actor.Email] = true, true
		switch target := audit.Target(e.Resource); {
		case target != "" && target[0] == 'r':
			roles[target] = true
		case target != "":
			hosts[target] = true
		}
		if e.Ticket != "" {
			tickets++
		}
		if audit.Content(e) != "" {
			texts++
		}
		if i > 0 && e.Time.Before(events[i-1].Time) {
			late++
		}
	}
	if len(ids) != n || len(users) != genPeople || len(roles) != genRoles || len(hosts) != genHosts {
		t.Errorf("%d IDs, %d users, %d roles, %d hosts", len(ids), len(users), len(roles), len(hosts))
	}
	if tickets < n/30 || tickets > n/12 || texts < n/10 || late == 0 || late > n/2 {
		t.Errorf("%d tickets, %d texts, %d events out of order", tickets, texts, late)
	}
	if took := events[n-1].Time.Sub(events[0].Time); took < 300*24*time.Hour || took > 430*24*time.Hour {
		t.Errorf("the events span %v", took)
	}
	for _, key := range slices.Sorted(maps.Keys(kinds)) {
		t.Logf("%-28s %5.1f %%", key, 100*float64(kinds[key])/n)
	}
	if kinds["aws.assume intent"] == 0 || kinds["ssh.hop denied"] == 0 || kinds["session.command success"] < n/10 {
		t.Errorf("kinds are %v", kinds)
	}
}
