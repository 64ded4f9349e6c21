package postgres

import (
	"testing"

	"sega/audit"
)

// TestMissingHashes: stored hashes that somebody has deleted are a finding; a tree that cannot be
// read is an error, and not hashes that are missing.
func TestMissingHashes(t *testing.T) {
	s := server(t)
	db := s.NewDatabase(t)
	l := openTest(t, config(t, s.URL(db)))
	var events []audit.Event
	for i := range 300 {
		events = append(events, testEvent(i))
	}
	if _, err := l.Append(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	_, tree := l.Head()
	if err := s.Exec(t.Context(), db, `DELETE FROM sega.tree WHERE chunk = 1`); err != nil {
		t.Fatal(err)
	}
	report, err := audit.Verifier{Checkpoint: tree}.Verify(l.Rows(t.Context(), 0, tree.N))
	if err != nil || report.Found == 0 || report.Problems[0].Finding != audit.FindingTree {
		t.Errorf("%+v, %v", report, err)
	}
	if err := s.Exec(t.Context(), db, `ALTER TABLE sega.tree RENAME TO aside`); err != nil {
		t.Fatal(err)
	}
	if report, err := (audit.Verifier{Checkpoint: tree}).Verify(l.Rows(t.Context(), 0, tree.N)); err == nil {
		t.Errorf("of a tree that cannot be read: %+v", report)
	}
}
