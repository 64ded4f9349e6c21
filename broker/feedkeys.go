package broker

import (
	"context"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// keyPage is how many keys one item of the feed names.
const keyPage = 500

// tellKeys sends the bastion the registered keys that are good, where they are others than it knows.
func (f *feeding) tellKeys(ctx context.Context) error {
	var moved int64
	var live []state.PersonKey
	err := f.s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		if moved, err = state.KeysMoved(ctx, tx); err != nil || moved == f.keys {
			return err
		}
		live, err = state.LiveKeys(ctx, tx, "", "", f.s.Now())
		return err
	})
	if err != nil || moved == f.keys {
		return err
	}
	for first := true; first || len(live) > 0; first = false {
		n := min(keyPage, len(live))
		set := api.FeedKeySet{First: first, Last: n == len(live), Keys: []api.FeedKey{}}
		for _, k := range live[:n] {
			set.Keys = append(set.Keys, api.FeedKey{ID: k.ID, Fingerprint: k.Fingerprint})
		}
		live = live[n:]
		if err := f.send(api.FeedItem{Type: api.FeedKeys, Keys: &set}); err != nil {
			return err
		}
	}
	f.keys = moved
	return nil
}
