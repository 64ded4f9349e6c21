package browse

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"sega/audit"
	"sega/broker/api"
	"sega/cmd/sega/tui"
)

// Bounds of what is kept of one event.
const (
	detailsLimit = 256 << 10 // bytes of details
	cellLimit    = 300       // runes of a column
)

// row is an event as listed. Its columns are clean.
type row struct {
	index   int64
	event   audit.Event
	broken  string // why the envelope cannot be read, "" where it can
	tooLong int    // bytes of details that are too long to keep

	kind, outcome, who, what, reason string
}

// newRow reads an event as the broker sends it. One that cannot be read is shown as such: it hides no other.
func newRow(e api.Event) row {
	v, err := audit.Parse(e.Envelope)
	if err != nil {
		return row{index: e.Index, broken: err.Error(), kind: "unreadable", reason: tui.Clean(tui.Clip(err.Error(), cellLimit))}
	}
	r := row{index: e.Index, event: v}
	if len(e.Details) > detailsLimit {
		r.tooLong = len(e.Details)
	} else {
		r.event.Details = e.Details
	}
	column := func(s string) string { return tui.Clean(tui.Clip(s, cellLimit)) }
	r.kind, r.outcome = column(v.Kind), column(string(v.Outcome))
	r.who, r.what = column(firstOf(v.Actor.Email, v.Actor.Sub, v.Actor.Kind)), column(v.Resource)
	r.reason = column(firstOf(v.Reason, content(r.event)))
	return r
}

// content is what an event did, to stand where it has no reason: a command or a path.
func content(e audit.Event) string {
	c := audit.Content(e)
	if c != "" && e.Kind == audit.KindSessionCommand {
		return "$ " + c
	}
	return strings.ReplaceAll(c, "\n", " ")
}

// size estimates the memory of a row, in bytes.
func (r row) size() int {
	const fixed = 600 // the struct and short strings
	return fixed + len(r.event.Details) + 2*len(r.event.Reason) + len(r.reason) + len(r.what)
}

// session is what a replay or a search for the session takes: the SSH session, else the login.
func (r row) session() string { return firstOf(r.event.SessionID, r.event.LoginID) }

// replayable returns the SSH session whose recording belongs to the event, "" where there is none.
func (r row) replayable() string {
	if strings.HasPrefix(r.event.SessionID, "ssh_") {
		return r.event.SessionID
	}
	return ""
}

// Layouts of times.
const (
	stampLong  = "2006-01-02 15:04:05"
	stampShort = "01-02 15:04:05"
	stampTiny  = "01-02 15:04"
)

// when is the time in so many cells: those of a layout. In the short ones another year shows its date
// alone.
func (r row) when(now time.Time, width int) string {
	switch t := r.event.Time.In(now.Location()); {
	case r.broken != "":
		return ""
	case width >= len(stampLong):
		return t.Format(stampLong)
	case t.Year() != now.Year():
		return t.Format(time.DateOnly)
	case width >= len(stampShort):
		return t.Format(stampShort)
	default:
		return t.Format(stampTiny)
	}
}

// details are the details on lines of their own.
func (r row) details() string {
	if len(r.event.Details) == 0 {
		return ""
	}
	var out bytes.Buffer
	if err := json.Indent(&out, r.event.Details, "", "  "); err != nil {
		return string(r.event.Details)
	}
	return out.String()
}

func firstOf(values ...string) string {
	for _, v := range values {
		if strings.TrimSpace(v) != "" {
			return v
		}
	}
	return ""
}
