package audit

import (
	"encoding/json"
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

// Content returns what an event's details hold of other people's words, for free-text search: the
// command of session.command, and the paths of sftp.*, joined by newlines. It is empty for every
// other kind, and where the details are not there.
func Content(e Event) string {
	if e.Kind != KindSessionCommand && !strings.HasPrefix(e.Kind, "sftp.") || len(e.Details) == 0 {
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
