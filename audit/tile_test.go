package audit

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
)

func TestTilePath(t *testing.T) {
	for path, want := range map[string]tlog.Tile{
		"tile/0/000":                               {H: 8, L: 0, N: 0, W: 256},
		"tile/0/x001/x234/067":                     {H: 8, L: 0, N: 1234067, W: 256},
		"tile/0/x001/x234/067.p/1":                 {H: 8, L: 0, N: 1234067, W: 1},
		"tile/3/001.p/255":                         {H: 8, L: 3, N: 1, W: 255},
		"tile/63/000":                              {H: 8, L: 63, N: 0, W: 256},
		"tile/entries/000":                         EntriesTile(0, 256),
		"tile/entries/x001/000.p/7":                EntriesTile(1000, 7),
		"tile/0/x009/x223/x372/x036/x854/775":      {H: 8, L: 0, N: 9223372036854775, W: 256},
		"tile/0/x009/x223/x372/x036/x854/x775/807": {H: 8, L: 0, N: 1<<63 - 1, W: 256},
	} {
		got, err := ParseTilePath(path)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", path, err, diff)
		}
		if TilePath(got) != path || IsEntries(got) != strings.Contains(path, "entries") {
			t.Errorf("%s comes back as %s", path, TilePath(got))
		}
	}
	for _, path := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/1000", "tile/00/000", "tile/64/000", "tile/-1/000", "tile/+1/000",
		"tile/data/000", "tile/8/0/000", "tile/entries/0", "tile/ENTRIES/000", "Tile/0/000", "tile/0/X001/000", "tile/0/001/000", "tile/0/x000/001", "tile/0/x001", "tile/0/x001/x000",
		"tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/-1", "tile/0/000.p/", "tile/0/000.p", "tile/0/000.P/1", "tile/0/x001.p/000", "tile/0/000.p/1/2", "tile/0/000/", "/tile/0/000",
		"tile/0//000", "tile/0/..", "tile/0/000.p/1.p/1", "tile/0/x009/x223/x372/x036/x854/x775/808", "tile/0/x018/x446/x744/x073/x709/x551/616", "tile/0/x" + strings.Repeat("001/x", 20) + "000", "tile/0/٠٠٠", "tile/0/000?x", "tile/0/0 0",
	} {
		if tile, err := ParseTilePath(path); !errors.Is(err, ErrTilePath) {
			t.Errorf("%q is taken for %+v, %v", path, tile, err)
		}
	}
}

// TestTileIn goes through the example of the specification: 70,000 events.
func TestTileIn(t *testing.T) {
	for path, want := range map[string]bool{
		"tile/0/000": true, "tile/0/272": true, "tile/0/273.p/112": true, "tile/0/273.p/1": true, "tile/0/273.p/113": false, "tile/0/273": false, "tile/0/274.p/1": false, "tile/0/000.p/255": true,
		"tile/1/000": true, "tile/1/001.p/17": true, "tile/1/001.p/18": false, "tile/1/001": false, "tile/2/000.p/1": true, "tile/2/000.p/2": false, "tile/2/000": false, "tile/3/000.p/1": false,
		"tile/63/000.p/1": false, "tile/8/000.p/1": false, "tile/entries/273.p/112": true, "tile/entries/273.p/113": false, "tile/entries/000": true, "tile/0/x009/x223/x372/x036/x854/x775/807": false,
	} {
		tile, err := ParseTilePath(path)
		if err != nil || TileIn(tile, 70_000) != want {
			t.Errorf("%s: %v, %v", path, TileIn(tile, 70_000), err)
		}
		if TileIn(tile, 0) {
			t.Errorf("%s is in the empty tree", path)
		}
	}
	if !TileIn(tlog.Tile{H: 8, L: 1, N: 0, W: 1}, 256) || TileIn(tlog.Tile{H: 8, L: 1, N: 0, W: 1}, 255) || TileIn(tlog.Tile{H: 8, W: 0}, 9) {
		t.Error("the edge of a tile is wrong")
	}
}

func FuzzParseTilePath(f *testing.F) {
	for _, path := range []string{"tile/0/000", "tile/entries/x001/000.p/7", "tile/63/x001/x234/067.p/255", "tile/data/000", "tile/0/x009/x223/x372/x036/x854/x775/808"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := ParseTilePath(path)
		if err != nil {
			return
		}
		if TilePath(tile) != path || tile.N < 0 || tile.W < 1 || tile.W > 256 || tile.L < -1 || tile.L > 63 {
			t.Errorf("%q is taken for %+v, which is %q", path, tile, TilePath(tile))
		}
		if TileIn(tile, 0) {
			t.Errorf("%q is in the empty tree", path)
		}
	})
}

func TestEntries(t *testing.T) {
	longest := bytes.Repeat([]byte{'x'}, MaxEnvelope)
	var bundle []byte
	var err error
	entries := [][]byte{[]byte("{}"), {}, longest, []byte("\x00\x01")}
	for _, e := range entries {
		if bundle, err = AppendEntry(bundle, e); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.HasPrefix(bundle, []byte{0, 2, '{', '}', 0, 0, 0xff, 0xff, 'x'}) {
		t.Errorf("bundle begins with %x", bundle[:9])
	}
	got, err := ParseEntries(bundle)
	if diff := cmp.Diff(entries, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := AppendEntry(nil, append(longest, 'x')); err == nil {
		t.Error("an entry was taken whose length does not fit")
	}
	for _, cut := range []int{1, 2, 3, 5, 7, 100, len(bundle) - 1} {
		if _, err := ParseEntries(bundle[:cut]); err == nil && cut != 4 {
			t.Errorf("cut at %d: no error", cut)
		}
	}
}

func FuzzParseEntries(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 2, '{', '}', 0, 0})
	f.Add([]byte{0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, bundle []byte) {
		entries, err := ParseEntries(bundle)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			if again, err = AppendEntry(again, e); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(again, bundle) {
			t.Errorf("%x comes back as %x", bundle, again)
		}
	})
}
