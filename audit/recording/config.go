package recording

import (
	"io"
	"time"

	"filippo.io/age"
)

// File is the spool. It must be empty, and nobody else may write to it.
type File interface {
	io.Writer
	Sync() error
}

// Config is what New needs.
type Config struct {
	SessionID  string
	Recipients []age.Recipient // who may read output and events: two distinct ones at least

	// InputRecipients may read what the person typed: two distinct ones at least, or nil for Recipients.
	InputRecipients []age.Recipient

	RecipientNames      []string // as the header and the log list them; nil for the public keys
	InputRecipientNames []string
	Hash                Hash             // "" for BLAKE2b; see FasterHash
	Now                 func() time.Time // nil for time.Now; its monotonic reading times the frames
}

// Announcement goes into the details of session.start: it ties the recording to the log before
// the first frame is written.
type Announcement struct {
	PublicKey    []byte   `json:"public_key"`    // Ed25519, signs the seals
	HeaderDigest string   `json:"header_digest"` // hex hash of the header's bytes, by the function that it names
	Recipients   []string `json:"recipients"`
}
