package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// TileHeight is the height of every tile of a log (C2SP tlog-tiles): 256 hashes, or 256 entries.
const TileHeight = 8

// entriesLevel is how package tlog calls a tile of entries.
const entriesLevel = -1

// maxTilePath bounds what ParseTilePath looks at; the longest path has under 50 bytes.
const maxTilePath = 64

// ErrTilePath means that a path names no tile.
var ErrTilePath = errors.New("audit: not the path of a tile")

// EntriesTile returns tile n of the entries, w of them wide.
func EntriesTile(n int64, w int) tlog.Tile {
	return tlog.Tile{H: TileHeight, L: entriesLevel, N: n, W: w}
}

// IsEntries reports whether a tile holds entries rather than hashes.
func IsEntries(t tlog.Tile) bool { return t.L == entriesLevel }

// TilePath returns a tile's path below the log's prefix, like "tile/0/x001/234" or
// "tile/entries/000.p/5" (C2SP tlog-tiles).
func TilePath(t tlog.Tile) string {
	path := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", TileHeight))
	if rest, ok := strings.CutPrefix(path, "data/"); ok {
		path = "entries/" + rest
	}
	return "tile/" + path
}

// ParseTilePath reads what TilePath writes, and nothing else. Errors wrap ErrTilePath.
func ParseTilePath(path string) (tlog.Tile, error) {
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok || len(path) > maxTilePath || strings.HasPrefix(rest, "data/") {
		return tlog.Tile{}, ErrTilePath
	}
	if n, ok := strings.CutPrefix(rest, "entries/"); ok {
		rest = "data/" + n
	}
	t, err := tlog.ParseTilePath(fmt.Sprintf("tile/%d/%s", TileHeight, rest))
	if err != nil || t.L > 63 || t.N < 0 || TilePath(t) != path {
		return tlog.Tile{}, ErrTilePath
	}
	return t, nil
}

// TileIn reports whether the tree of a size has all that a tile asks for. A tile that is full in
// that tree may be asked for at any smaller width too.
func TileIn(t tlog.Tile, size int64) bool {
	have := size // hashes at the tile's level
	if t.L > 0 {
		have >>= TileHeight * uint(t.L)
	}
	return t.W > 0 && t.N <= have>>TileHeight && t.N<<TileHeight+int64(t.W) <= have
}

// AppendEntry appends an entry to a bundle of entries: its length, two bytes big-endian, then its bytes.
func AppendEntry(bundle, body []byte) ([]byte, error) {
	if len(body) > MaxEnvelope {
		return nil, fmt.Errorf("audit: entry of %d bytes, at most %d", len(body), MaxEnvelope)
	}
	return append(binary.BigEndian.AppendUint16(bundle, uint16(len(body))), body...), nil
}

// ParseEntries splits a bundle of entries; the entries share its memory.
func ParseEntries(bundle []byte) ([][]byte, error) {
	var entries [][]byte
	for len(bundle) > 0 {
		if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
			return nil, fmt.Errorf("audit: a bundle of entries ends within entry %d", len(entries))
		}
		end := 2 + int(binary.BigEndian.Uint16(bundle))
		entries, bundle = append(entries, bundle[2:end:end]), bundle[end:]
	}
	return entries, nil
}
