package sqlite

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"
)

// find returns, in any order, the indexes of the events from..to-1 that have all pieces.
func (t *textIndex) find(ctx context.Context, pieces []string, from, to int64) ([]int64, error) {
	t.mu.Lock()
	db := t.db
	t.mu.Unlock()
	if db == nil {
		return nil, errors.New("it is closed")
	}
	var quoted []string
	for _, p := range pieces {
		quoted = append(quoted, `"`+strings.ReplaceAll(p, `"`, `""`)+`"`)
	}
	return queryIDs(ctx, db, `SELECT rowid FROM texts WHERE texts MATCH ? AND rowid >= ? AND rowid < ?`, strings.Join(quoted, " AND "), from, to)
}

// maxPieces bounds what is asked of the index; more would find hardly less.
const maxPieces = 24

// textPieces are the letters, three by three, that a text which contains value has. The index folds
// letters of either case, those beyond ASCII too: it may find more than a search asks for, never less.
func textPieces(value string) []string {
	var pieces []string
	seen := map[string]bool{}
	for _, part := range strings.Split(lower(value), "\x00") {
		for rest := part; utf8.RuneCountInString(rest) >= 3 && len(pieces) < maxPieces; {
			three := string([]rune(rest)[:3])
			if !seen[three] {
				seen[three] = true
				pieces = append(pieces, three)
			}
			_, size := utf8.DecodeRuneInString(rest)
			rest = rest[size:]
		}
	}
	return pieces
}
