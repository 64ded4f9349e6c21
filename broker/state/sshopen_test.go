package state_test

import (
	"context"
	"testing"
	"time"

	"sega/broker/state"
)

// TestOpenSSH: what counts as open is what may really be there.
func TestOpenSSH(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		add := func(id, sub, host, node, to string, started, end time.Time) {
			d.write(func(ctx context.Context, q state.Querier) error {
				if err := state.AddSSH(ctx, q, state.SSHSession{ID: id, Bearer: state.Bearer{Issuer: issuer, Subject: sub}, Host: host, Node: node, Started: started, NotAfter: end}); err != nil {
					return err
				}
				return state.SetSSHState(ctx, q, id, to)
			})
		}
		lease := func(machine, name string, until time.Time) {
			d.write(func(ctx context.Context, q state.Querier) error {
				return state.PutFollower(ctx, q, state.Follower{Machine: machine, Name: name, Node: "node-1", Lease: until})
			})
		}
		later, old := noon.Add(time.Hour), noon.Add(-2*time.Hour)
		lease("mch_1", "here", noon.Add(time.Second))
		lease("mch_2", "gone", noon)
		lease("mch_3", "again", old) // under one name there was another machine before
		lease("mch_4", "again", noon.Add(time.Second))
		add("ssh_live", alice, "web-1", "here", state.SSHLive, old, later)
		add("ssh_unknown", alice, "web-1", "never heard of", state.SSHLive, old.Add(1), later)
		add("ssh_again", alice, "web-2", "again", state.SSHLive, old.Add(time.Second), later)
		add("ssh_ended", alice, "web-1", "here", state.SSHEnded, old, later)
		add("ssh_over", alice, "web-1", "here", state.SSHLive, old, noon)
		add("ssh_gone", alice, "web-1", "gone", state.SSHLive, old, later)
		add("ssh_opening", alice, "web-1", "here", state.SSHOpening, noon.Add(-time.Minute+time.Millisecond), later)
		add("ssh_forgotten", alice, "web-1", "here", state.SSHOpening, noon.Add(-time.Minute), later)
		add("ssh_bob", "00u-bob", "web-1", "here", state.SSHLive, old, later)
		want(d, func(ctx context.Context, q state.Querier) (ids []string, err error) {
			found, err := state.OpenSSHOf(ctx, q, issuer, alice, noon, time.Minute)
			for _, s := range found {
				ids = append(ids, s.ID)
			}
			return ids, err
		}, []string{"ssh_live", "ssh_unknown", "ssh_again", "ssh_opening"})
		want(d, func(ctx context.Context, q state.Querier) (int, error) {
			return state.CountSSHOn(ctx, q, "web-1", noon, time.Minute)
		}, 4)
		want(d, func(ctx context.Context, q state.Querier) (int, error) {
			return state.CountSSHOn(ctx, q, "web-3", noon, time.Minute)
		}, 0)
	})
}
