package browse

import (
	"strconv"
	"strings"
	"time"

	"sega/cmd/sega/tui"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// Widths of columns, in cells.
const (
	outcomeWidth = 7
	wideScreen   = 110 // from here on, times have a year
	narrowScreen = 70  // below it, times have no seconds
	leastWho     = 8
	leastWhat    = 9
	leastReason  = 10
)

// columns are the widths of a list's columns; 0 leaves a column out.
type columns struct{ index, time, kind, outcome, who, what, reason int }

// layout shares a screen's width out: what is fixed first, then who, what and reason by need.
func (w widths) layout(width int) columns {
	c := columns{index: max(w.index, 3), time: len(stampShort), kind: max(min(w.kind, 16), 4), outcome: outcomeWidth}
	switch {
	case width >= wideScreen:
		c.time = len(stampLong)
	case width < narrowScreen:
		c.time = len(stampTiny)
	}
	rest := width - len(marker) - c.index - c.time - c.kind - c.outcome - 4 // a space behind each
	who, what, reason := max(w.who, 3), max(w.what, 4), max(w.reason, 6)
	switch {
	case rest >= who+what+reason+2:
		c.who, c.what, c.reason = who, what, rest-who-what-2
	case rest >= leastWho+leastWhat+leastReason+2:
		c.who = min(who, max(rest*3/10, leastWho))
		c.what = min(what, max(rest*35/100, leastWhat))
		c.reason = rest - c.who - c.what - 2
	case rest >= leastWho+leastWhat+1:
		c.who = min(who, rest*45/100)
		c.what = rest - c.who - 1
	default:
		c.who = max(rest, 0)
	}
	return c
}

// marker stands before a row, arrow before the chosen one.
const (
	marker = "  "
	arrow  = "> "
)

func (c columns) header() string {
	return c.join(marker, nil, "IDX", "TIME", "KIND", "OUTCOME", "WHO", "WHAT", "REASON")
}

// line is a row; paint gives its outcome a style, and may be nil.
func (c columns) line(mark string, r row, now time.Time, paint func(string) string) string {
	return c.join(mark, paint, itoa(r.index), r.when(now, c.time), r.kind, r.outcome, r.who, r.what, r.reason)
}

func (c columns) join(mark string, paint func(string) string, values ...string) string {
	var b strings.Builder
	b.WriteString(mark)
	for i, width := range []int{c.index, c.time, c.kind, c.outcome, c.who, c.what, c.reason} {
		cell := tui.Fit(values[i], width)
		switch {
		case width <= 0:
			continue
		case i == 0: // numbers stand to the right
			b.WriteString(strings.Repeat(" ", max(width-tui.Cells(values[i]), 0)) + tui.Cut(values[i], width))
			continue
		case i == 3 && paint != nil:
			cell = paint(cell)
		}
		b.WriteString(" " + cell)
	}
	return b.String()
}
