package api

import "encoding/json"

// Kinds of machines.
const (
	MachineBastion = "bastion"
	MachineIndexer = "indexer"
	MachineHost    = "host"
)

// IndexSession is a line of RouteIndexSessions: an SSH session that has ended, with what the log
// says of its recording, so that an indexer can judge the recording before it opens it. An answer
// holds a hundred at most: ask again after the last.
type IndexSession struct {
	Index     int64             `json:"idx"` // of its session.end: where to go on after it
	SessionID string            `json:"session_id"`
	Start     json.RawMessage   `json:"start"` // details of session.start
	End       json.RawMessage   `json:"end"`   // details of session.end
	Heads     []json.RawMessage `json:"heads"` // of this session, from recording.heads
}

// IndexSearch is a line of RouteIndexSearches: a question to the indexer. An empty ID is a
// heartbeat, one a second.
type IndexSearch struct {
	ID    string `json:"id"`
	Text  string `json:"text"`  // MinScreen characters at least, MaxScreen bytes at most, of one line
	Limit int    `json:"limit"` // of sessions
	UpTo  int64  `json:"up_to"` // sessions up to this index of the log are asked for
}

// Bounds of a text that screens are searched for. An index of three characters finds nothing shorter.
const (
	MinScreen = 3    // characters
	MaxScreen = 1000 // bytes
)

// IndexHits answers one. The text that was found stays with the indexer (design R11).
type IndexHits struct {
	ID       string   `json:"id"`
	Sessions []string `json:"sessions"`         // ssh_…, sorted
	More     bool     `json:"more"`             // there are more than the limit
	UpTo     int64    `json:"up_to"`            // sessions are indexed up to this index of the log
	Missing  int      `json:"missing,omitzero"` // sessions of which nothing can be found
	Cut      int      `json:"cut,omitzero"`     // and of which not all of it can
	Error    string   `json:"error"`            // "" where the search succeeded
}
