package sqlite

import (
	"path/filepath"
	"testing"

	"sega/audit"
	"sega/audit/store/backend"
	"sega/audit/store/storetest"
)

// TestMissingHashes: stored hashes that somebody has deleted are a finding; a tree that cannot be
// read is an error, and not hashes that are missing.
func TestMissingHashes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	l := openTest(t, Config{Path: path})
	const n = 300
	if _, err := l.Append(t.Context(), storetest.NewGenerator(3).Events(n), nil); err != nil {
		t.Fatal(err)
	}
	_, tree := l.Head()
	meddle(t, path, `DELETE FROM tree WHERE chunk IN (1, 2)`)
	report, err := audit.Verifier{Checkpoint: tree}.Verify(l.Rows(t.Context(), 0, n))
	if err != nil || report.Found != 1 || report.Problems[0].Finding != audit.FindingTree || report.Problems[0].Index != backend.HashesPerChunk/2+1 {
		t.Errorf("%+v, %v", report, err)
	}
	meddle(t, path, `ALTER TABLE tree RENAME TO aside`)
	defer meddle(t, path, `ALTER TABLE aside RENAME TO tree`)
	if report, err := (audit.Verifier{Checkpoint: tree}).Verify(l.Rows(t.Context(), 0, n)); err == nil {
		t.Errorf("of a tree that cannot be read: %+v", report)
	}
}
