package audit

import (
	"encoding/json"
	"slices"
	"strings"
)

// Prefixes of Event.Resource that searches know by name.
const (
	ResourceRole = "role/"
	ResourceHost = "host/"
)

// contentDetails are the fields of details that hold what a person typed or opened (design R11).
type contentDetails struct {
	Command string `json:"command"`
	Raw     []byte `json:"raw"` // the command where it is not UTF-8
	Path    string `json:"path"`
	To      string `json:"to"`
}

// contentFields are their names.
func contentFields() []string { return []string{"command", "raw", "path", "to"} }

// HasContent reports whether the details of a kind of event hold what a person typed or opened.
func HasContent(kind string) bool {
	return kind == KindSessionCommand || strings.HasPrefix(kind, "sftp.")
}

// Content returns what an event's details hold of other people's words, for free-text search: the
// command of session.command, and the paths of sftp.*, joined by newlines. It is empty for every
// other kind, and where the details are not there.
func Content(e Event) string {
	if !HasContent(e.Kind) || len(e.Details) == 0 {
		return ""
	}
	var d contentDetails
	if json.Unmarshal(e.Details, &d) != nil {
		return ""
	}
	var parts []string
	for _, s := range []string{d.Command, strings.ToValidUTF8(string(d.Raw), "\uFFFD"), d.Path, d.To} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "\n")
}

// Withhold returns details for somebody who may not read content: those of a kind that has none as
// they are, the others without the fields that hold it and with "withheld": true. Details that are
// no object are withheld whole. The result does not match the event's digest.
func Withhold(kind string, details json.RawMessage) json.RawMessage {
	if !HasContent(kind) || len(details) == 0 {
		return details
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(details, &fields) != nil {
		fields = nil
	}
	out := map[string]json.RawMessage{"withheld": json.RawMessage("true")}
	for name, value := range fields {
		// Readers in Go take a name in any case for the field.
		if !slices.ContainsFunc(contentFields(), func(f string) bool { return strings.EqualFold(f, name) }) && !strings.EqualFold(name, "withheld") {
			out[name] = value
		}
	}
	line, err := json.Marshal(out)
	if err != nil {
		return json.RawMessage(`{"withheld":true}`)
	}
	return line
}
