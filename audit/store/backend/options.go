package backend

import (
	"errors"
	"log/slog"

	"golang.org/x/mod/sumdb/note"
)

// Options are what every backend needs besides the place of its database.
type Options struct {
	Signer   note.Signer   // of checkpoints; its name is the log's origin
	Verifier note.Verifier // of Signer's key
	Schema   []string      // DDL of the state beside the log, idempotent, in SQLite's words, run on every open
	Log      *slog.Logger  // nil: none
	MaxBatch int           // appends that share a commit at most; 0: 1,024
	Reads    int           // connections that read state and tree at most; 0: 4
	Scans    int           // connections that search, count and read rows at most; 0: 4
}

// Settle refuses options that cannot work, and fills in what is zero.
func Settle(c *Options) error {
	switch {
	case c.Signer == nil || c.Verifier == nil:
		return errors.New("signer and verifier are needed")
	case c.Signer.Name() != c.Verifier.Name() || c.Signer.KeyHash() != c.Verifier.KeyHash():
		return errors.New("signer and verifier are not of one key")
	case c.MaxBatch < 0 || c.Reads < 0 || c.Scans < 0:
		return errors.New("max batch, reads and scans may not be negative")
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = 1024
	}
	if c.Reads == 0 {
		c.Reads = 4
	}
	if c.Scans == 0 {
		c.Scans = 4
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}
