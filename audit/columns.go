package audit

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// ColumnNames lists the indexed columns of a stored event in the order of its table.
func ColumnNames() []string {
	return []string{"idx", "id", "time", "kind", "outcome", "actor_kind", "iss", "sub", "email",
		"login_id", "session_id", "action", "resource", "source", "node"}
}

// Columns derives every indexed column from an event at an index. Numbers are decimal; time is in
// nanoseconds since 1970.
func Columns(index int64, e Event) map[string]string {
	return map[string]string{
		"idx":        strconv.FormatInt(index, 10),
		"id":         e.ID,
		"time":       strconv.FormatInt(e.Time.UnixNano(), 10),
		"kind":       e.Kind,
		"outcome":    string(e.Outcome),
		"actor_kind": e.Actor.Kind,
		"iss":        e.Actor.Iss,
		"sub":        e.Actor.Sub,
		"email":      e.Actor.Email,
		"login_id":   e.LoginID,
		"session_id": e.SessionID,
		"action":     e.Action,
		"resource":   e.Resource,
		"source":     e.Source,
		"node":       e.Node,
	}
}

// Place gives the row its index in the log.
func (r *Row) Place(index int64) {
	r.Index = index
	r.Columns["idx"] = strconv.FormatInt(index, 10)
}

// RowError says what is wrong with a stored row. Column is "" where no single one is to blame;
// "body", "salt" and "details" count as columns.
type RowError struct {
	Index  int64
	ID     string // of the event, "" where the body does not parse
	Column string
	What   string
}

// Error implements error.
func (e *RowError) Error() string {
	s := fmt.Sprintf("event %d", e.Index)
	if e.ID != "" {
		s += " (" + e.ID + ")"
	}
	if e.Column != "" {
		s += ", column " + e.Column
	}
	return s + ": " + e.What
}

// CheckRow holds a stored row against its own body: the body is a canonical event, every indexed
// column is the one derived from it (design R9), and details match their digest. The returned
// error is a *RowError. Details that are missing are an error: nothing may delete them yet.
func CheckRow(row Row) error {
	if _, err := checkRow(row); err != nil {
		return err
	}
	return nil
}

// checkRow is CheckRow, and returns the event with its details. Its error is nil or a *RowError,
// and the event is filled in as far as it could be read.
func checkRow(row Row) (Event, *RowError) {
	e, err := Parse(row.Body)
	if err != nil {
		return Event{}, &RowError{Index: row.Index, Column: "body", What: err.Error()}
	}
	e.Details = row.Details
	if column, what := compareColumns(row.Columns, row.Index, &e); what != "" {
		return e, &RowError{Index: row.Index, ID: e.ID, Column: column, What: what}
	}
	if column, what := compareDetails(e.DetailsDigest, row); what != "" {
		return e, &RowError{Index: row.Index, ID: e.ID, Column: column, What: what}
	}
	return e, nil
}

// compareColumns returns the first column, by name, that is not as derived, or nothing. Nearly
// every row is sound, so the map of what it should be is made for the others alone.
func compareColumns(stored map[string]string, index int64, e *Event) (column, what string) {
	if sound(stored, index, e) {
		return "", ""
	}
	derived := Columns(index, *e)
	for _, name := range slices.Sorted(maps.Keys(derived)) {
		switch got, ok := stored[name]; {
		case !ok:
			return name, "is missing"
		case got != derived[name]:
			return name, fmt.Sprintf("is %.80q, but the hashed event says %.80q", got, derived[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		if _, ok := derived[name]; !ok {
			return name, "is not a column of an event"
		}
	}
	return "", ""
}

// sound reports whether stored is Columns(index, e), without making it.
func sound(stored map[string]string, index int64, e *Event) bool {
	var number [20]byte
	text := [...]struct{ name, want string }{
		{"id", e.ID}, {"kind", e.Kind}, {"outcome", string(e.Outcome)}, {"actor_kind", e.Actor.Kind}, {"iss", e.Actor.Iss}, {"sub", e.Actor.Sub},
		{"email", e.Actor.Email}, {"login_id", e.LoginID}, {"session_id", e.SessionID}, {"action", e.Action}, {"resource", e.Resource}, {"source", e.Source}, {"node", e.Node},
	}
	for i := range text {
		if got, ok := stored[text[i].name]; !ok || got != text[i].want {
			return false
		}
	}
	return len(stored) == len(text)+2 && stored["idx"] == string(strconv.AppendInt(number[:0], index, 10)) &&
		stored["time"] == string(strconv.AppendInt(number[:0], e.Time.UnixNano(), 10))
}

func compareDetails(digest string, row Row) (column, what string) {
	switch {
	case digest == "" && len(row.Salt) > 0:
		return "salt", "is there, but the hashed event has no details"
	case digest == "" && len(row.Details) > 0:
		return "details", "are there, but the hashed event has none"
	case digest == "":
		return "", ""
	case len(row.Details) == 0:
		return "details", "are missing, and no retention.delete event covers them"
	case len(row.Salt) == 0:
		return "salt", "is missing, and no retention.delete event covers it"
	case len(row.Salt) != SaltSize:
		return "salt", fmt.Sprintf("has %d bytes, want %d", len(row.Salt), SaltSize)
	case DetailsDigest(row.Salt, row.Details) != digest:
		return "details", "or their salt were changed: they do not match the digest in the hashed event"
	}
	return "", ""
}
