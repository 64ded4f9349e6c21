package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"unicode/utf8"
)

// textView is the index as it is at one moment.
type textView struct {
	db   *sql.DB
	era  int
	upTo int64 // events that it covers
}

func (t *textIndex) view() textView {
	t.mu.Lock()
	defer t.mu.Unlock()
	return textView{t.db, t.era, t.upTo.Load()}
}

// find returns, in any order, the indexes of the events from..to-1 that have all pieces. The mark
// is read in the same statement: another process may have begun the file anew.
func (v textView) find(ctx context.Context, pieces []string, from, to int64) ([]int64, error) {
	if v.db == nil {
		return nil, errors.New("it is closed")
	}
	var quoted []string
	for _, p := range pieces {
		quoted = append(quoted, `"`+strings.ReplaceAll(p, `"`, `""`)+`"`)
	}
	rows, err := v.db.QueryContext(ctx, `SELECT 1, size FROM mark UNION ALL SELECT 0, rowid FROM texts WHERE texts MATCH ? AND rowid >= ? AND rowid < ?
		UNION ALL SELECT 0, idx FROM opaque WHERE idx >= ? AND idx < ?`, strings.Join(quoted, " AND "), from, to, from, to)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	var covers int64
	for rows.Next() {
		var id int64
		var mark bool
		if err := rows.Scan(&mark, &id); err != nil {
			return nil, err
		}
		if mark {
			covers = id
		} else {
			ids = append(ids, id)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if covers < to {
		return nil, errMoved
	}
	return ids, nil
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
