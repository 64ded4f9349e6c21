package audit

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// bundleOf proves an event of a log under a key.
func bundleOf(tb testing.TB, s *stored, key *LogKey, index, size int64) Bundle {
	tb.Helper()
	proof, err := tlog.ProveRecord(size, index, s.hashes)
	if err != nil {
		tb.Fatal(err)
	}
	msg, err := SignCheckpoint(key.Name(), s.root(tb, size), key)
	if err != nil {
		tb.Fatal(err)
	}
	row := s.rows[index]
	b := Bundle{Format: BundleFormat, Origin: key.Name(), Key: key.VerifierKey(), Index: index, Event: row.Body, Salt: row.Salt, Details: row.Details, Checkpoint: string(msg)}
	for _, h := range proof {
		b.Inclusion = append(b.Inclusion, h[:])
	}
	return b
}

func testLogKey(tb testing.TB) *LogKey {
	tb.Helper()
	key, err := GenerateLogKey("sega.test/audit&log")
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func judge(data []byte, key string) (Proven, error) {
	b, err := ParseBundle(data)
	if err != nil {
		return Proven{}, err
	}
	return b.Verify(key)
}

func TestBundle(t *testing.T) {
	s, key := storedLog(t, 33), testLogKey(t)
	for _, size := range []int64{1, 2, 7, 32, 33} {
		for index := range size {
			b := bundleOf(t, s, key, index, size)
			data, err := b.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			got, err := judge(data, key.VerifierKey())
			want := Proven{Index: index, Event: mustParse(s.rows[index].Body), Checkpoint: Checkpoint{Origin: key.Name(), Tree: s.root(t, size)}}
			want.Event.Details = s.rows[index].Details
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Fatalf("event %d of %d: %v\n%s", index, size, err, diff)
			}
		}
	}
	b := bundleOf(t, s, key, 3, 33)
	b.Salt, b.Details = nil, nil
	data, _ := b.Marshal()
	if got, err := judge(data, key.VerifierKey()); err != nil || got.Event.Details != nil || got.Event.DetailsDigest == "" {
		t.Errorf("without its details: %+v, %v", got, err)
	}
}

// TestBundleFlips changes every byte of a bundle, one after the other, in its lowest bit (base64 has
// spare ones there) and in another, and takes every byte away: nothing may go unnoticed.
func TestBundleFlips(t *testing.T) {
	s, key := storedLog(t, 5), testLogKey(t)
	data, err := bundleOf(t, s, key, 3, 5).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := judge(data, key.VerifierKey()); err != nil {
		t.Fatal(err)
	}
	for at := range data {
		for _, bit := range []int{0, 1 + at%7} {
			bad := append([]byte(nil), data...)
			bad[at] ^= 1 << bit
			if _, err := judge(bad, key.VerifierKey()); !errors.Is(err, ErrBundle) {
				t.Errorf("bit %d of byte %d: %v\n%s", bit, at, err, bad)
			}
		}
		bad := append(append([]byte(nil), data[:at]...), data[at+1:]...)
		if _, err := judge(bad, key.VerifierKey()); !errors.Is(err, ErrBundle) {
			t.Errorf("without byte %d: %v", at, err)
		}
	}
}

// TestBundleForged: what somebody without the log's key could make of true parts.
func TestBundleForged(t *testing.T) {
	s, key := storedLog(t, 20), testLogKey(t)
	other, err := GenerateLogKey(key.Name())
	if err != nil {
		t.Fatal(err)
	}
	forged := storedLog(t, 20)
	reseal(t, &forged.rows[3])
	cases := map[string]struct {
		change func(b *Bundle)
		want   string
	}{
		"another event's bytes":   {func(b *Bundle) { b.Event, b.Salt, b.Details = s.rows[4].Body, nil, nil }, "not event 3"},
		"another index":           {func(b *Bundle) { b.Index = 2 }, "not event 2"},
		"an index below":          {func(b *Bundle) { b.Index = -1 }, "not among 20"},
		"an index beyond":         {func(b *Bundle) { b.Index = 20 }, "not among 20"},
		"changed bytes":           {func(b *Bundle) { b.Event, b.Salt, b.Details = forged.rows[3].Body, nil, nil }, "not event 3"},
		"no proof":                {func(b *Bundle) { b.Inclusion = nil }, "not event 3"},
		"a proof too long":        {func(b *Bundle) { b.Inclusion = append(b.Inclusion, make([]byte, 32)) }, "not event 3"},
		"a hash cut":              {func(b *Bundle) { b.Inclusion[0] = b.Inclusion[0][:31] }, "has 31 bytes"},
		"details of another":      {func(b *Bundle) { b.Salt, b.Details = s.rows[6].Salt, s.rows[6].Details }, "column details"},
		"details without salt":    {func(b *Bundle) { b.Salt = nil }, "column salt"},
		"salt without details":    {func(b *Bundle) { b.Details = nil }, "column details"},
		"a checkpoint of before":  {func(b *Bundle) { b.Checkpoint = bundleOf(t, s, key, 0, 19).Checkpoint }, "not event 3"},
		"signed by another":       {func(b *Bundle) { b.Checkpoint = bundleOf(t, s, other, 3, 20).Checkpoint }, "not a checkpoint"},
		"the forger's own key":    {func(b *Bundle) { *b = bundleOf(t, s, other, 3, 20) }, "it is of the log"},
		"named another log":       {func(b *Bundle) { b.Origin = "elsewhere/audit" }, "it is of the log"},
		"a second signature":      {func(b *Bundle) { b.Checkpoint = cosigned(t, b.Checkpoint, key, other) }, "2 signatures"},
		"another format":          {func(b *Bundle) { b.Format = "sega-bundle/2" }, "format"},
		"details where none were": {func(b *Bundle) { *b = bundleOf(t, s, key, 4, 20); b.Salt, b.Details = make([]byte, 32), []byte("{}") }, "column salt"},
		"not an event":            {func(b *Bundle) { b.Event = []byte("{}") }, "column body"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := bundleOf(t, s, key, 3, 20)
			c.change(&b)
			data, err := b.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := judge(data, key.VerifierKey()); !errors.Is(err, ErrBundle) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v, want %q", got, err, c.want)
			}
		})
	}
	if _, err := bundleOf(t, s, key, 3, 20).Verify("junk"); err == nil || errors.Is(err, ErrBundle) {
		t.Errorf("a key that is none: %v", err)
	}
}

// cosigned adds a signature by another key of the same name.
func cosigned(tb testing.TB, msg string, key, other *LogKey) string {
	tb.Helper()
	n, err := note.Open([]byte(msg), note.VerifierList(key.Verifier()))
	if err != nil {
		tb.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: n.Text, Sigs: n.Sigs}, other)
	if err != nil {
		tb.Fatal(err)
	}
	return string(signed)
}

// FuzzParseBundle: what is read is what is written.
func FuzzParseBundle(f *testing.F) {
	s, key := storedLog(f, 5), testLogKey(f)
	for _, b := range []Bundle{bundleOf(f, s, key, 3, 5), bundleOf(f, s, key, 1, 4), {Format: BundleFormat}, {Format: "x", Event: []byte{1}}} {
		data, err := b.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte(`{"format":"sega-bundle/1","format":"` + base64.StdEncoding.EncodeToString([]byte("x")) + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBundle(data)
		if err != nil {
			if !errors.Is(err, ErrBundle) {
				t.Error(err)
			}
			return
		}
		again, err := b.Marshal()
		if err != nil || string(again) != string(data) {
			t.Errorf("%v\n%s\nwas\n%s", err, again, data)
		}
		_, _ = b.Verify(key.VerifierKey())
	})
}
