package state_test

import (
	"context"
	"testing"
	"time"

	"sega/broker/state"
)

// TestFollowers: every broker sees where a bastion is, until when it may hold sessions, and what it has done.
func TestFollowers(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		one := state.Follower{Machine: "mch_1", Name: "b1", Node: "node-1", Acked: 4, Lease: noon.Add(time.Minute)}
		two := state.Follower{Machine: "mch_2", Name: "b2", Node: "node-2", Acked: -1, Lease: noon}
		put := func(f state.Follower) func(context.Context, state.Querier) error {
			return func(ctx context.Context, q state.Querier) error { return state.PutFollower(ctx, q, f) }
		}
		ack := func(machine string, index, closed int64, at time.Time) {
			d.write(func(ctx context.Context, q state.Querier) error {
				return state.AckFollower(ctx, q, machine, index, closed, at)
			})
		}
		keep := func(node string, lease time.Time) {
			d.write(func(ctx context.Context, q state.Querier) error {
				return state.KeepFollower(ctx, q, "mch_1", node, lease)
			})
		}
		at := func(now time.Time) func(context.Context, state.Querier) ([]state.Follower, error) {
			return func(ctx context.Context, q state.Querier) ([]state.Follower, error) {
				return state.Followers(ctx, q, now)
			}
		}
		d.write(put(one))
		d.write(put(two))
		want(d, at(noon.Add(-1)), []state.Follower{one, two})
		want(d, at(noon), []state.Follower{one}) // the other's lease has ended

		ack("mch_1", 7, 3, noon)
		ack("mch_1", 6, 9, noon.Add(time.Second)) // came late
		ack("mch_3", 7, 1, noon)                  // nobody
		one.Acked, one.Closed, one.AckedAt = 7, 3, noon
		want(d, at(noon), []state.Follower{one})

		keep("node-1", noon.Add(2*time.Minute))
		one.Lease = noon.Add(2 * time.Minute)
		want(d, at(noon), []state.Follower{one})

		// It went to another broker, which knows of no acknowledgement; the first one holds nothing any more.
		one.Node, one.Lease = "node-2", noon.Add(3*time.Minute)
		moved := one
		moved.Acked = 5
		d.write(put(moved))
		keep("node-1", noon.Add(time.Hour))
		want(d, at(noon), []state.Follower{one})
	})
}
