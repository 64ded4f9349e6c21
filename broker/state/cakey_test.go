package state_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/state"
)

func (d db) raise() (version int64) {
	d.t.Helper()
	d.write(func(ctx context.Context, q state.Querier) (err error) {
		version, err = state.RaiseTrust(ctx, q)
		return err
	})
	return version
}

func (d db) addCA(ca, key, phase string, version int64) error {
	return d.try(func(ctx context.Context, q state.Querier) error {
		return state.AddCAKey(ctx, q, state.CAKey{CA: ca, Key: key, Phase: phase, Version: version, Published: noon})
	})
}

func (d db) move(key, from, to string) error {
	return d.try(func(ctx context.Context, q state.Querier) error {
		k := state.CAKey{Key: key, Phase: from, Version: 1, Published: noon}
		if to == state.CAOld || to == state.CARetired {
			k.Replaced, k.Until = noon.Add(time.Hour), noon.Add(2*time.Hour)
		}
		if to == state.CARetired {
			k.Retired = noon.Add(3 * time.Hour)
		}
		return state.MoveCAKey(ctx, q, k, to)
	})
}

// TestCAKeysLive: a key goes from next to retired, no phase is held by two keys of a CA, and no key by two CAs.
func TestCAKeysLive(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		want(d, state.TrustVersion, int64(0))
		if got := d.raise(); got != 1 {
			t.Fatalf("the first version is %d", got)
		}
		for name, step := range map[string]struct {
			ca, key, phase string
		}{"a": {"access", "a", state.CACurrent}, "h": {"hop", "h", state.CACurrent}} {
			if err := d.addCA(step.ca, step.key, step.phase, 1); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := d.addCA("access", "h", state.CANext, 2); !errors.Is(err, state.ErrExists) {
			t.Errorf("a key of the hop CA became one of the access CA: %v", err)
		}
		if err := d.addCA("access", "b", state.CACurrent, 2); !errors.Is(err, state.ErrExists) {
			t.Errorf("a second current key: %v", err)
		}
		version := d.raise()
		if err := d.addCA("access", "b", state.CANext, version); err != nil {
			t.Fatal(err)
		}
		if err := d.addCA("access", "c", state.CANext, version); !errors.Is(err, state.ErrExists) {
			t.Errorf("a second next key: %v", err)
		}
		for _, step := range []struct {
			key, from, to string
			want          error
		}{
			{"a", state.CAOld, state.CARetired, state.ErrNotFound}, // signs still
			{"a", state.CACurrent, state.CAOld, nil},
			{"b", state.CANext, state.CACurrent, nil},
			{"b", state.CANext, state.CACurrent, state.ErrNotFound},
			{"a", state.CAOld, state.CARetired, nil},
			{"a", state.CAOld, state.CARetired, state.ErrNotFound},
		} {
			if err := d.move(step.key, step.from, step.to); !errors.Is(err, step.want) {
				t.Errorf("%s from %s to %s: %v, want %v", step.key, step.from, step.to, err, step.want)
			}
		}
		retired := state.CAKey{CA: "access", Key: "a", Phase: state.CARetired, Version: 1, Published: noon, Replaced: noon.Add(time.Hour), Until: noon.Add(2 * time.Hour), Retired: noon.Add(3 * time.Hour)}
		want(d, state.CAKeys, []state.CAKey{retired,
			{CA: "access", Key: "b", Phase: state.CACurrent, Version: 1, Published: noon}, {CA: "hop", Key: "h", Phase: state.CACurrent, Version: 1, Published: noon}})
		if err := d.addCA("access", "a", state.CANext, 3); !errors.Is(err, state.ErrExists) {
			t.Errorf("a retired key came back: %v", err)
		}
		drop := func(key string) error {
			return d.try(func(ctx context.Context, q state.Querier) error { return state.DropCAKey(ctx, q, key) })
		}
		if err := drop("b"); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("a key that signs was forgotten: %v", err)
		}
	})
}

// TestCALife: the longest life of a CA's keys counts, until its key is retired.
func TestCALife(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		life := func(ca string, want time.Duration) {
			t.Helper()
			got, err := read(d, func(ctx context.Context, q state.Querier) (time.Duration, error) { return state.CALife(ctx, q, ca) })
			if err != nil || got != want {
				t.Errorf("%s: %v, %v, want %v", ca, got, err, want)
			}
		}
		keep := func(key string, life time.Duration) {
			d.write(func(ctx context.Context, q state.Querier) error { return state.KeepCALife(ctx, q, key, life) })
		}
		for key, ca := range map[string]string{"a": "access", "h": "hop"} {
			if err := d.addCA(ca, key, state.CACurrent, 1); err != nil {
				t.Fatal(err)
			}
		}
		life("access", 0)
		keep("a", time.Minute)
		keep("a", time.Hour)
		keep("a", 8*time.Minute)
		keep("h", 2*time.Minute)
		life("access", time.Hour)
		life("hop", 2*time.Minute)
		if err := d.move("a", state.CACurrent, state.CARetired); err != nil {
			t.Fatal(err)
		}
		life("access", 0)
	})
}

// TestTrustSeen: the last word of a machine counts, and a recovery leaves no version that could come twice.
func TestTrustSeen(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		saw := func(s state.Seen) {
			d.write(func(ctx context.Context, q state.Querier) error { return state.SawTrust(ctx, q, s) })
		}
		saw(state.Seen{Machine: "mch_1", Name: "bastion-1", Kind: "bastion", Version: 4, At: noon})
		saw(state.Seen{Machine: "mch_2", Name: "web-1", Kind: "host", Version: 2, At: noon})
		saw(state.Seen{Machine: "mch_1", Name: "bastion-1", Kind: "bastion", Version: 3, At: noon.Add(time.Second)})
		got, err := read(d, state.TrustSeen)
		if diff := cmp.Diff([]state.Seen{{Machine: "mch_1", Name: "bastion-1", Kind: "bastion", Version: 3, At: noon.Add(time.Second)},
			{Machine: "mch_2", Name: "web-1", Kind: "host", Version: 2, At: noon}}, got); err != nil || diff != "" {
			t.Errorf("%v -want +got\n%s", err, diff)
		}
		before := d.raise()
		d.write(func(ctx context.Context, q state.Querier) error { return state.Recover(ctx, q, noon) })
		if after := d.raise(); after < before+1000 {
			t.Errorf("version %d after a recovery, %d before: one that somebody has seen may come again", after, before)
		}
	})
}
