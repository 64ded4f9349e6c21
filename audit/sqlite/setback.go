package sqlite

import (
	"fmt"
	"os"

	"sega/audit/store"
)

// sameFile looks whether the database that is open still is the one of that name. What is appended to
// one that was replaced or removed is gone with the process, whatever was synced.
func (l *Log) sameFile() error {
	now, err := os.Stat(l.cfg.Path)
	switch {
	case err != nil:
		return fmt.Errorf("look at the database: %w", err)
	case !os.SameFile(l.file, now):
		return fmt.Errorf("%w: another file has taken the place of %s", store.ErrSetBack, l.cfg.Path)
	}
	return nil
}
