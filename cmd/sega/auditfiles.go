package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"sega/broker/api"
)

// fileDetails are those of sftp.* that a reader sees at a glance.
type fileDetails struct {
	Path    string                  `json:"path"`
	To      string                  `json:"to"`
	Read    *api.FileTransfer       `json:"read"`
	Written *api.FileTransfer       `json:"written"`
	Counts  map[string]api.Attempts `json:"counts"`

	Withheld bool `json:"withheld"` // paths are content, which the reader may not read
}

// onFiles reports whether a kind of event is of an operation on files.
func onFiles(kind string) bool { return strings.HasPrefix(kind, "sftp.") }

// fileText says what an operation was about, on one line: paths, bytes, and the digest of a file that
// went over whole or from some place to its end. It is "" where the details are not those of one.
func fileText(raw json.RawMessage) string {
	var d fileDetails
	if json.Unmarshal(raw, &d) != nil {
		return ""
	}
	parts := []string{d.Path}
	if d.Withheld {
		parts[0] = "(path withheld)"
	}
	if d.To != "" {
		parts = append(parts, "→ "+d.To)
	}
	for _, t := range []*api.FileTransfer{d.Written, d.Read} {
		if t == nil {
			continue
		}
		text := fmt.Sprintf("%d bytes", t.Bytes)
		switch {
		case len(t.Runs) != 1 || t.Rest != nil:
			text += " in pieces"
		case t.Runs[0].Offset > 0:
			text += fmt.Sprintf(" from %d on, sha256:%s", t.Runs[0].Offset, t.Runs[0].SHA256)
		default:
			text += " sha256:" + t.Runs[0].SHA256
		}
		parts = append(parts, text)
	}
	if n := looks(d.Counts); n > 0 {
		parts = append(parts, fmt.Sprintf("%d looks", n))
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

func looks(counts map[string]api.Attempts) (n int64) {
	for _, c := range counts {
		n += c.Count
	}
	return n
}
