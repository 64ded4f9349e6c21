package audit

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// Limits of an event.
const (
	MaxEnvelope = 1<<16 - 1 // bytes of the body: what the length of an entry in a tile can say
	MaxDetails  = 1 << 20   // bytes of the details
	SaltSize    = 32        // bytes
)

// version is the one version of the envelope.
const version = 1

// ErrInvalid means that an event breaks a rule of the envelope: the caller's mistake, which no
// retry mends.
var ErrInvalid = errors.New("audit: invalid event")

// New returns an event with version, ID, time and an empty list of policies filled in.
func New(now time.Time, kind string, outcome Outcome) Event {
	return Event{V: version, ID: NewID(), Time: now.Round(0).UTC(), Kind: kind, Outcome: outcome, PolicyIDs: []string{}}
}

// Seal validates e and returns it as a row that has no place in the log yet: Index is -1 until
// Place. It brings the time to UTC and a nil PolicyIDs to an empty one, salts details and sets
// their digest. Errors wrap ErrInvalid.
func Seal(e Event) (Row, error) {
	e.Time = e.Time.Round(0).UTC()
	if e.PolicyIDs == nil {
		e.PolicyIDs = []string{}
	}
	row := Row{Index: -1}
	if err := sealDetails(&e, &row); err != nil {
		return Row{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := check(&e); err != nil {
		return Row{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if !KnownKind(e.Kind) {
		return Row{}, fmt.Errorf("%w: kind %.40q is not in the list of kinds", ErrInvalid, e.Kind)
	}
	var err error
	if row.Body, err = json.Marshal(&e); err != nil {
		return Row{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(row.Body) > MaxEnvelope {
		return Row{}, fmt.Errorf("%w: envelope of %d bytes, at most %d", ErrInvalid, len(row.Body), MaxEnvelope)
	}
	row.Columns = Columns(row.Index, e)
	return row, nil
}

// sealDetails salts the details into row and sets their digest in e.
func sealDetails(e *Event, row *Row) error {
	switch {
	case e.DetailsDigest != "":
		return errors.New("details_digest is set by sealing, not by the caller")
	case len(e.Details) == 0:
		return nil
	case len(e.Details) > MaxDetails:
		return fmt.Errorf("details of %d bytes, at most %d", len(e.Details), MaxDetails)
	case !json.Valid(e.Details) || !utf8.Valid(e.Details):
		return errors.New("details are not JSON in UTF-8")
	}
	row.Salt = make([]byte, SaltSize)
	rand.Read(row.Salt)
	row.Details = bytes.Clone(e.Details)
	e.DetailsDigest = DetailsDigest(row.Salt, row.Details)
	return nil
}

// DetailsDigest returns hex SHA-256(salt ‖ details).
func DetailsDigest(salt, details []byte) string {
	h := sha256.New()
	h.Write(salt)
	h.Write(details)
	return hex.EncodeToString(h.Sum(nil))
}

// Parse reads the body of a row: version 1, no unknown, repeated or missing field, nothing after
// it, and byte for byte what Seal would write for the same event. It does not ask that the kind is
// in Kinds, so that an older reader can verify a newer log. Details are not part of the body.
func Parse(body []byte) (Event, error) {
	if len(body) > MaxEnvelope {
		return Event{}, fmt.Errorf("audit: envelope of %d bytes, at most %d", len(body), MaxEnvelope)
	}
	e, ok := parsePlain(body)
	if !ok {
		var err error
		if e, err = parseAny(body); err != nil {
			return Event{}, err
		}
	}
	if err := check(&e); err != nil {
		return Event{}, fmt.Errorf("audit: envelope: %w", err)
	}
	return e, nil
}

// parseAny reads any canonical envelope, by reading JSON and writing it again.
func parseAny(body []byte) (Event, error) {
	var e Event
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return Event{}, fmt.Errorf("audit: parse envelope: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Event{}, errors.New("audit: data after the envelope")
	}
	// encoding/json also takes repeated fields, other cases, spaces and bytes that are not UTF-8.
	canonical, err := json.Marshal(&e)
	if err != nil {
		return Event{}, fmt.Errorf("audit: envelope: %w", err)
	}
	if !bytes.Equal(canonical, body) {
		return Event{}, errors.New("audit: envelope is not in canonical form")
	}
	return e, nil
}

// check holds an event against the rules that writers and readers share.
func check(e *Event) error {
	switch {
	case e.V != version:
		return fmt.Errorf("version %d, want %d", e.V, version)
	case e.Time.Location() != time.UTC:
		return errors.New("time is not in UTC")
	case e.Time.Year() < 1970 || e.Time.Year() > 2261: // what nanoseconds since 1970 hold in 64 bits
		return fmt.Errorf("time of the year %d is out of range", e.Time.Year())
	case !kindShaped(e.Kind):
		return fmt.Errorf("kind %.40q is not of the form noun.verb", e.Kind)
	case !knownOutcome(e.Outcome):
		return fmt.Errorf("outcome %.40q is not known", string(e.Outcome))
	case !knownActorKind(e.Actor.Kind):
		return fmt.Errorf("actor kind %.40q is not known", e.Actor.Kind)
	case e.PolicyIDs == nil:
		return errors.New("policy_ids is not an array")
	case !digestShaped(e.DetailsDigest):
		return errors.New("details_digest is not a hex SHA-256")
	}
	if err := CheckID(e.ID); err != nil {
		return err
	}
	return checkText(e)
}

func digestShaped(s string) bool {
	if s == "" {
		return true
	}
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// checkText refuses strings that JSON would silently change.
func checkText(e *Event) error {
	for _, f := range [...]struct{ name, value string }{
		{"iss", e.Actor.Iss}, {"sub", e.Actor.Sub}, {"email", e.Actor.Email}, {"login_id", e.LoginID},
		{"session_id", e.SessionID}, {"request_id", e.RequestID}, {"action", e.Action}, {"resource", e.Resource},
		{"reason", e.Reason}, {"ticket", e.Ticket}, {"policy_digest", e.PolicyDigest}, {"source", e.Source}, {"node", e.Node},
	} {
		if !utf8.ValidString(f.value) {
			return fmt.Errorf("%s is not UTF-8", f.name)
		}
	}
	for _, id := range e.PolicyIDs {
		if !utf8.ValidString(id) {
			return errors.New("policy_ids is not UTF-8")
		}
	}
	return nil
}
