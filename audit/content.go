package audit

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
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

// contentFields are their names, and "query": who looks for a secret types it.
func contentFields() []string { return []string{"command", "raw", "path", "to", "query"} }

// HasContent reports whether the details of a kind of event hold what a person typed or opened.
func HasContent(kind string) bool { return searched(kind) || kind == KindAuditRead }

// searched reports whether free text finds what a kind's details hold: not what was looked for before.
func searched(kind string) bool {
	return kind == KindSessionCommand || strings.HasPrefix(kind, "sftp.")
}

// Content returns what an event's details hold of other people's words, for free-text search: the
// command of session.command, and the paths of sftp.*, joined by newlines. It is empty for every
// other kind, and where the details are not there.
func Content(e Event) string {
	if !searched(e.Kind) || len(e.Details) == 0 {
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
// they are, the others without the fields that hold it, at any depth, for a denial keeps what was asked
// for as "request", and with "withheld": true. Details that are no object are withheld whole, and what
// is not read as JSON in them. The result does not match the event's digest.
func Withhold(kind string, details json.RawMessage) json.RawMessage {
	if !HasContent(kind) || len(details) == 0 {
		return details
	}
	fields, ok := withoutContent(details).(map[string]any)
	if !ok || fields == nil {
		fields = map[string]any{}
	}
	maps.DeleteFunc(fields, func(name string, _ any) bool { return strings.EqualFold(name, "withheld") })
	fields["withheld"] = true
	line, err := json.Marshal(fields)
	if err != nil {
		return json.RawMessage(`{"withheld":true}`)
	}
	return line
}

// withoutContent returns a JSON value without the fields that hold content. Numbers stay as they stand.
func withoutContent(raw json.RawMessage) any {
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil
	}
	if _, err := d.Token(); err != io.EOF {
		return nil
	}
	return pruned(v)
}

func pruned(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			// Readers in Go take a name in any case for the field.
			if slices.ContainsFunc(contentFields(), func(f string) bool { return strings.EqualFold(f, name) }) {
				delete(v, name)
				continue
			}
			v[name] = pruned(inner)
		}
	case []any:
		for i := range v {
			v[i] = pruned(v[i])
		}
	}
	return v
}
