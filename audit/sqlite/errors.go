package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// code returns SQLite's extended result code, 0 for nil and -1 for what is not of SQLite.
func code(err error) int {
	var e *sqlite.Error
	switch {
	case err == nil:
		return sqlite3.SQLITE_OK
	case errors.As(err, &e):
		return e.Code()
	}
	return -1
}

// failing reports whether an error is the database's own, so that no request of the batch can go on.
func failing(err error) bool {
	if err == nil {
		return false
	}
	switch code(err) & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
		sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT:
		return code(err) != -1
	}
	return false
}

// explain says what to do about the failures that an operator can mend.
func explain(err error) error {
	switch code(err) & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("the disk is full; free space, the next append goes on by itself: %w", err)
	case sqlite3.SQLITE_READONLY:
		return fmt.Errorf("the database is read-only; mend the mount or the file's mode: %w", err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("another process holds the database; end it: %w", err)
	}
	return err
}
