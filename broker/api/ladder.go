package api

// What a session rests on, and of which a ladder says what happens when it fails.
const (
	OnRecording = "recording" // a write to the spool finds no room on the disk
	OnBroker    = "broker"    // the feed is lost
	OnDisk      = "disk"      // the spool has less than half of its reserve left
	OnStorage   = "storage"   // the bucket has taken nothing of the session for half a minute
)

// What is done then.
const (
	DoRefuse = "refuse" // nothing new opens; what lives goes on
	DoPause  = "pause"  // I/O stops until it is mended, and the session ends when that takes too long
	DoEnd    = "end"    // the session ends at once
)

// Rung is what happens to a session when one of these fails. The zero value is the default: end for
// OnRecording, refuse for the others. Whoever does not know what Do says ends.
type Rung struct {
	Do      string `json:"do,omitempty"`
	Seconds int    `json:"seconds,omitempty"` // of DoPause: how long it may take
}

// Ladder is what the company declared for the host of a session. It tightens what holds anyway: a
// frame that is not recorded is not forwarded, and the end of the lease closes everything.
type Ladder struct {
	Recording Rung `json:"recording,omitzero"`
	Broker    Rung `json:"broker,omitzero"`
	Disk      Rung `json:"disk,omitzero"`
	Storage   Rung `json:"storage,omitzero"`
}
