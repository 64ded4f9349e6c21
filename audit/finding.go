package audit

import "errors"

// Finding is what a problem is an instance of, for programs to tell apart.
type Finding string

// Findings.
const (
	FindingRewritten  Finding = "rewritten"         // the bytes of an event are not those that were signed
	FindingDropped    Finding = "dropped"           // an event is not there, later ones are
	FindingReordered  Finding = "reordered"         // an event stands in another place than it was signed in
	FindingInserted   Finding = "inserted"          // an event is there that was never signed
	FindingTruncated  Finding = "truncated"         // the end of the log is not there
	FindingForked     Finding = "forked"            // the log has signed two histories
	FindingRolledBack Finding = "rolled-back"       // the log no longer holds what it has signed before
	FindingForged     Finding = "forged-checkpoint" // the checkpoint is not signed by the log's key, or not a checkpoint
	FindingRoot       Finding = "root"              // the root over all events is not the signed one
	FindingMalformed  Finding = "malformed"         // the bytes of an event are not an event
	FindingColumn     Finding = "column"            // an indexed column is not the one derived from the hashed bytes
	FindingDetails    Finding = "details"           // details or their salt were changed, removed or added
	FindingTree       Finding = "tree"              // a stored hash is not that of the event
	FindingRollup     Finding = "rollup"            // a rollup does not count what the hashed events give
	FindingSession    Finding = "session"           // the events of a session contradict each other
	FindingRecording  Finding = "recording"         // a recording is not what the log says of it
	FindingBundle     Finding = "bundle"            // a bundle does not prove what it claims
	FindingUnproven   Finding = "unproven"          // rows are not those seen before, and no proof tells which of them the log has signed
)

// FindingOf says what an error of OpenCheckpoint, of a Witness or of a Bundle is an instance of;
// "" where it says nothing about the log.
func FindingOf(err error) Finding {
	switch {
	case errors.Is(err, ErrRollback):
		return FindingRolledBack
	case errors.Is(err, ErrFork):
		return FindingForked
	case errors.Is(err, ErrCheckpoint):
		return FindingForged
	case errors.Is(err, ErrNoSuchSize):
		return FindingRolledBack
	case errors.Is(err, ErrBundle):
		return FindingBundle
	}
	return ""
}

// finding says what is wrong with a row that contradicts itself.
func (e *RowError) finding() Finding {
	switch e.Column {
	case "body":
		return FindingMalformed
	case "salt", "details":
		return FindingDetails
	}
	return FindingColumn
}
