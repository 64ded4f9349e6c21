package state_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/state"
)

// TestFollowedSessions: what a feed is told of its session is what a request would be judged by.
func TestFollowedSessions(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		bob := func(s *state.Session) { s.Subject = "00u-bob" }
		foreign := func(s *state.Session) { s.Issuer = "https://other.example" }
		outdated := func(s *state.Session) { bob(s); s.Epoch = 1 }
		d.write(see(alice, "alice@example.com", "Alice", noon))
		d.write(block("00u-bob", "x"))
		d.write(add(login("ses_1"), login("ses_out"), login("ses_blocked", bob), login("ses_old", outdated), login("ses_foreign", foreign), login("ses_none", func(s *state.Session) { s.Groups = nil })))
		d.write(endOf("ses_out", state.EndedLogout))
		both := `["engineering","on call"]`
		whole := map[string]state.Followed{
			"ses_1":       {ID: "ses_1", Groups: both, Expires: noon.Add(time.Hour), Current: true},
			"ses_out":     {ID: "ses_out", Groups: both, Expires: noon.Add(time.Hour), Ended: noon, EndedWhy: state.EndedLogout},
			"ses_blocked": {ID: "ses_blocked", Groups: both, Expires: noon.Add(time.Hour)},
			"ses_old":     {ID: "ses_old", Groups: both, Expires: noon.Add(time.Hour)},
			"ses_foreign": {ID: "ses_foreign", Groups: both, Expires: noon.Add(time.Hour), Current: true},
			"ses_none":    {ID: "ses_none", Groups: `[]`, Expires: noon.Add(time.Hour), Current: true},
		}
		ids := []string{"ses_unknown", ""}
		for id := range whole {
			ids = append(ids, id)
		}
		followed := func(ids []string) map[string]state.Followed {
			t.Helper()
			all, err := read(d, func(ctx context.Context, q state.Querier) ([]state.Followed, error) {
				return state.FollowedSessions(ctx, q, ids)
			})
			if err != nil {
				t.Fatal(err)
			}
			out := map[string]state.Followed{}
			for _, f := range all {
				if _, twice := out[f.ID]; twice {
					t.Errorf("%s comes twice", f.ID)
				}
				out[f.ID] = f
			}
			return out
		}
		if diff := cmp.Diff(whole, followed(ids)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		if n := len(followed(nil)) + len(followed([]string{"ses_unknown"})); n != 0 {
			t.Errorf("%d sessions of nobody", n)
		}
	})
}

// TestManyFollowedSessions: more than a statement takes.
func TestManyFollowedSessions(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		var ids []string
		d.write(func(ctx context.Context, q state.Querier) (err error) {
			for i := range 601 {
				ids = append(ids, fmt.Sprintf("ses_%d", i))
				err = errors.Join(err, state.AddSession(ctx, q, login(ids[i])))
			}
			return err
		})
		for _, n := range []int{1, 2, 4, 5, 249, 250, 251, 601} {
			got, err := read(d, func(ctx context.Context, q state.Querier) ([]state.Followed, error) {
				return state.FollowedSessions(ctx, q, ids[:n])
			})
			seen := map[string]bool{}
			for _, f := range got {
				seen[f.ID] = true
			}
			if err != nil || len(got) != n || len(seen) != n {
				t.Errorf("%d of %d sessions, %d of them different: %v", len(got), n, len(seen), err)
			}
		}
	})
}

func TestLastRevocation(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		last := func(ctx context.Context, q state.Querier) (int64, error) { return state.LastRevocation(ctx, q) }
		want(d, last, int64(-1))
		for _, i := range []int64{7, 3} {
			d.write(func(ctx context.Context, q state.Querier) error {
				return state.AddRevocation(ctx, q, state.Revocation{Index: i, EventID: "evt", SessionID: "ssh_1", At: noon})
			})
		}
		want(d, last, int64(7))
	})
}
