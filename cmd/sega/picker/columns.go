package picker

import (
	"strings"

	"sega/cmd/sega/tui"
)

// Bounds of columns, in cells.
const (
	roleMost        = 48
	accountMost     = 24
	needMost        = 36
	descriptionLess = 12 // it is left out below this
	descriptionGood = 36 // and has so much before the mode has any
	gap             = 2
)

// marker stands before a row, arrow before the chosen one.
const (
	marker = "  "
	arrow  = "> "
)

// columns are the widths of the list's columns; 0 leaves a column out.
type columns struct{ role, account, max, mode, need, description int }

// natural are the widths that rows would take. A column in which no row has anything has none.
func natural(hits []hit) columns {
	var c columns
	for _, h := range hits {
		c.role = max(c.role, tui.Cells(h.name))
		c.account = max(c.account, tui.Cells(h.account))
		c.max = max(c.max, tui.Cells(h.max))
		c.mode = max(c.mode, tui.Cells(h.mode))
		c.need = max(c.need, tui.Cells(h.need))
		c.description = max(c.description, tui.Cells(h.description))
	}
	return c
}

// layout shares a screen's width out: the role first, then what it takes to get it, then what it is.
func (c columns) layout(width int) columns {
	rest := max(width-len(marker), 0)
	out := columns{role: min(max(c.role, len("ROLE")), roleMost, rest)}
	rest -= out.role
	for _, column := range []struct {
		natural, least, most int
		to                   *int
	}{
		{c.need, len("NEEDS"), needMost, &out.need},
		{c.account, len("ACCOUNT"), accountMost, &out.account},
		{c.max, len("MAX"), len("12h30m"), &out.max},
		{min(c.description, descriptionLess), descriptionLess, descriptionLess, &out.description},
	} {
		w := min(max(column.natural, column.least), column.most)
		if column.natural == 0 || rest < w+gap {
			continue
		}
		*column.to = w
		rest -= w + gap
	}
	if w := max(c.mode, len("MODE")); c.mode > 0 && rest >= gap+w+min(c.description, descriptionGood)-out.description {
		out.mode = w
		rest -= w + gap
	}
	if out.description > 0 {
		out.description += rest
	}
	return out
}

func (c columns) header() string {
	return c.join(marker, [...]string{"ROLE", "ACCOUNT", "MAX", "MODE", "NEEDS", "DESCRIPTION"}, nil)
}

// line is a row; paint gives the cell of a column a style, and may be nil.
func (c columns) line(mark string, h hit, paint func(column int, cell string) string) string {
	return c.join(mark, [...]string{h.name, h.account, h.max, h.mode, h.need, h.description}, paint)
}

func (c columns) join(mark string, values [6]string, paint func(int, string) string) string {
	var b strings.Builder
	b.WriteString(mark)
	first := true
	for i, width := range [...]int{c.role, c.account, c.max, c.mode, c.need, c.description} {
		if width <= 0 {
			continue
		}
		if !first {
			b.WriteString(strings.Repeat(" ", gap))
		}
		first = false
		cell := tui.Fit(values[i], width)
		if paint != nil {
			cell = paint(i, cell)
		}
		b.WriteString(cell)
	}
	return b.String()
}
