package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// BundleFormat is the one version of a bundle.
const BundleFormat = "sega-bundle/1"

// maxBundle bounds a bundle: an envelope, details and a proof, in base64.
const maxBundle = 2 << 20

// ErrBundle means that a bundle proves nothing.
var ErrBundle = errors.New("audit: the bundle does not verify")

// Bundle is an event with all that proves it to somebody who holds the log's public key alone. Its
// form is in docs/audit-format.md. Origin and Key say which log it is of; nobody may take the key
// from the bundle that it is to judge.
type Bundle struct {
	Format     string   `json:"format"` // BundleFormat
	Origin     string   `json:"origin"`
	Key        string   `json:"key"` // origin+hash+key
	Index      int64    `json:"idx"`
	Event      []byte   `json:"event"`             // the leaf's bytes
	Salt       []byte   `json:"salt,omitempty"`    // with Details
	Details    []byte   `json:"details,omitempty"` // as hashed
	Inclusion  [][]byte `json:"inclusion"`         // RFC 6962, leaf to root, in the checkpoint's tree
	Checkpoint string   `json:"checkpoint"`        // the signed note
}

// Proven is what a bundle proves.
type Proven struct {
	Index      int64
	Event      Event // with Details where the bundle has them
	Checkpoint Checkpoint
}

// Marshal returns the bundle's file: indented JSON with a newline at the end.
func (b Bundle) Marshal() ([]byte, error) {
	if b.Inclusion == nil {
		b.Inclusion = [][]byte{}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(b); err != nil {
		return nil, fmt.Errorf("audit: write bundle: %w", err)
	}
	return out.Bytes(), nil
}

// ParseBundle reads what Marshal writes, byte for byte and nothing else. It judges nothing. Errors wrap ErrBundle.
func ParseBundle(data []byte) (Bundle, error) {
	if len(data) > maxBundle {
		return Bundle{}, fmt.Errorf("%w: %d bytes, at most %d", ErrBundle, len(data), maxBundle)
	}
	var b Bundle
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return Bundle{}, fmt.Errorf("%w: it is not JSON of a bundle: %w", ErrBundle, err)
	}
	if b.Format != BundleFormat {
		return Bundle{}, fmt.Errorf("%w: format %.40q, want %q", ErrBundle, b.Format, BundleFormat)
	}
	// What decoding forgives (spaces, repeated fields, spare bits of base64) was not written by a log.
	canonical, err := b.Marshal()
	if err != nil || !bytes.Equal(canonical, data) {
		return Bundle{}, fmt.Errorf("%w: it is not in the form that a bundle is written in", ErrBundle)
	}
	return b, nil
}

// Verify holds the bundle against the log's public key, "origin+hash+key", which must come from
// elsewhere than the bundle. Errors wrap ErrBundle.
func (b Bundle) Verify(key string) (Proven, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return Proven{}, fmt.Errorf("audit: key of the log %.80q: %w", key, err)
	}
	if b.Key != key || b.Origin != verifier.Name() {
		return Proven{}, fmt.Errorf("%w: it is of the log %.80q with the key %.120q, not of %.120q", ErrBundle, b.Origin, b.Key, key)
	}
	c, err := b.checkpoint(verifier)
	if err != nil {
		return Proven{}, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	e, rowErr := b.event()
	if rowErr != nil {
		return Proven{}, fmt.Errorf("%w: %w", ErrBundle, rowErr)
	}
	proof, err := Hashes(b.Inclusion)
	if err != nil {
		return Proven{}, fmt.Errorf("%w: inclusion proof: %w", ErrBundle, err)
	}
	if err := CheckInclusion(proof, c.Tree, b.Index, b.Event); err != nil {
		return Proven{}, fmt.Errorf("%w: these bytes are not event %d of the %d events under the signed root %s: %w", ErrBundle, b.Index, c.Tree.N, c.Tree.Hash, err)
	}
	return Proven{Index: b.Index, Event: e, Checkpoint: c}, nil
}

// checkpoint opens the note, which must carry the log's signature alone: others would be words
// that nobody here can check.
func (b Bundle) checkpoint(verifier note.Verifier) (Checkpoint, error) {
	c, err := OpenCheckpoint([]byte(b.Checkpoint), verifier)
	if err != nil {
		return Checkpoint{}, err
	}
	n, err := note.Open([]byte(b.Checkpoint), note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return Checkpoint{}, fmt.Errorf("%w: %d signatures, want the log's own", ErrCheckpoint, len(n.Sigs)+len(n.UnverifiedSigs))
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64); err != nil {
		return Checkpoint{}, fmt.Errorf("%w: signature: %w", ErrCheckpoint, err)
	}
	return c, nil
}

// event reads the event, and its details where they are there: a bundle may leave them out.
func (b Bundle) event() (Event, *RowError) {
	e, err := Parse(b.Event)
	if err != nil {
		return Event{}, &RowError{Index: b.Index, Column: "body", What: err.Error()}
	}
	if len(b.Salt) == 0 && len(b.Details) == 0 {
		return e, nil
	}
	if column, what := compareDetails(e.DetailsDigest, Row{Salt: b.Salt, Details: b.Details}); what != "" {
		return e, &RowError{Index: b.Index, ID: e.ID, Column: column, What: what}
	}
	e.Details = b.Details
	return e, nil
}

// Hashes turns the hashes of a proof, as they are on the wire, into those of package tlog.
func Hashes(raw [][]byte) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(raw))
	for i, h := range raw {
		if len(h) != tlog.HashSize {
			return nil, fmt.Errorf("hash %d has %d bytes, want %d", i, len(h), tlog.HashSize)
		}
		out[i] = tlog.Hash(h)
	}
	return out, nil
}

// CheckInclusion checks that body is the leaf at an index of a tree (RFC 6962).
func CheckInclusion(proof tlog.RecordProof, tree tlog.Tree, index int64, body []byte) error {
	if index < 0 || index >= tree.N {
		return fmt.Errorf("event %d is not among %d events", index, tree.N)
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(body))
}

// CheckConsistency checks that a tree extends an older one (RFC 6962); every tree extends the empty
// one, with an empty proof.
func CheckConsistency(proof tlog.TreeProof, old, next tlog.Tree) error {
	if old.N > 0 {
		return tlog.CheckTree(proof, next.N, next.Hash, old.N, old.Hash)
	}
	if len(proof) != 0 || old.Hash != EmptyRoot() {
		return errors.New("invalid proof from the empty tree")
	}
	return nil
}
