package backend

import (
	"database/sql"
	"fmt"
	"strconv"

	"sega/audit"
)

// Bounds of a page: what an iterator holds while its consumer takes its time. No transaction is
// open between pages, so that a slow consumer keeps nothing of the database alive.
const (
	PageRows  = 1000
	PageBytes = 4 << 20
)

// ReadPage reads the columns of audit.ColumnNames, then body, salt and details, until PageBytes are full,
// and closes rows; whole is false where it left some of the answer unread. text returns a column's
// text as it was before it was stored, and whether it is one that a writer has stored.
func ReadPage(rows *sql.Rows, text func(stored string) (string, bool)) (page []audit.Row, whole bool, err error) {
	defer rows.Close()
	names := audit.ColumnNames()
	for size := 0; rows.Next(); {
		row, err := scanRow(rows, names, text)
		if err != nil {
			return nil, false, err
		}
		page = append(page, row)
		if size += len(row.Body) + len(row.Details); size >= PageBytes {
			return page, false, rows.Close()
		}
	}
	return page, true, rows.Err()
}

// scanRow reads a row exactly as stored: a NULL, or a text that no writer has written, is a column
// that is not there, which CheckRow reports.
func scanRow(rows *sql.Rows, names []string, text func(string) (string, bool)) (audit.Row, error) {
	row := audit.Row{Columns: make(map[string]string, len(names))}
	values := make([]sql.NullString, len(names))
	dest := make([]any, 0, len(names)+3)
	for i := range values {
		dest = append(dest, &values[i])
	}
	if err := rows.Scan(append(dest, &row.Body, &row.Salt, &row.Details)...); err != nil {
		return audit.Row{}, err
	}
	for i, name := range names {
		if value, ok := text(values[i].String); ok && values[i].Valid {
			row.Columns[name] = value
		}
	}
	var err error
	if row.Index, err = strconv.ParseInt(values[0].String, 10, 64); err != nil {
		return audit.Row{}, fmt.Errorf("index %q: %w", values[0].String, err)
	}
	return row, nil
}
