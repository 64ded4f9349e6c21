package browse

import (
	"fmt"
	"strings"

	"sega/cmd/sega/tui"
)

// Measures of the screen.
const (
	splitWidth  = 140 // from here on list and detail stand side by side
	statusLimit = 3   // lines of an error
	smallHeight = 8   // below it what can be spared goes
	separator   = " | "
)

// View implements tea.Model: exactly as many lines as the screen has, none wider than it.
func (m *model) View() string {
	lines := []string{m.topLine()}
	if !m.small() {
		lines = append(lines, m.hintLine())
	}
	lines = append(lines, m.body()...)
	lines = append(lines, m.statusLines()...)
	if !m.small() {
		lines = append(lines, m.keyLine())
	}
	return strings.Join(lines[:min(len(lines), max(m.height, 1))], "\n")
}

func (m *model) small() bool { return m.height < smallHeight }

// bodyHeight is what is left between the query and the status.
func (m *model) bodyHeight() int {
	spent := 1 + len(m.statusLines())
	if !m.small() {
		spent += 2
	}
	return max(m.height-spent, 1)
}

// listHeight is the number of rows on the screen, without the header.
func (m *model) listHeight() int { return max(m.bodyHeight()-1, 1) }

// inDetail reports whether the detail is on the screen.
func (m *model) inDetail() bool { return m.at == onDetail || m.at == onReason && m.back == onDetail }

// detailSize is the size of the detail's pane.
func (m *model) detailSize() (width, height int) {
	if m.width < splitWidth {
		return m.width, m.bodyHeight()
	}
	return m.width - m.listWidth() - len(separator), m.bodyHeight()
}

// listWidth is that of the list's pane.
func (m *model) listWidth() int {
	if m.inDetail() && m.width >= splitWidth {
		return m.width * 55 / 100
	}
	return m.width
}

func (m *model) body() []string {
	height := m.bodyHeight()
	switch {
	case m.help:
		lines := m.helpLines()
		return filled(lines[min(m.helpOffset, len(lines)):], height)
	case m.inDetail() && m.width >= splitWidth:
		left, right := filled(m.listLines(), height), filled(m.shownDetail(), height)
		for i := range left {
			left[i] += m.styles.Faint.Render(separator) + right[i]
		}
		return left
	case m.inDetail():
		return filled(m.shownDetail(), height)
	}
	return filled(m.listLines(), height)
}

// filled makes lines exactly as many as a height.
func filled(lines []string, height int) []string {
	for len(lines) < height {
		lines = append(lines, "")
	}
	return lines[:height]
}

// listLines are the header and the rows, each as wide as the pane.
func (m *model) listLines() []string {
	width, now := m.listWidth(), m.Now()
	c := m.list.widths.layout(width)
	lines := []string{m.styles.Faint.Render(tui.Fit(c.header(), width))}
	for i, r := range m.list.visible(m.listHeight()) {
		if m.list.top+i == m.list.cursor {
			lines = append(lines, m.styles.Chosen.Render(tui.Fit(c.line(arrow, r, now, nil), width)))
			continue
		}
		text := c.line(marker, r, now, func(s string) string { return outcomeStyle(m.styles, r.event.Outcome).Render(s) })
		if tui.Cells(c.line(marker, r, now, nil)) > width { // too narrow for any column
			text = tui.Cut(c.line(marker, r, now, nil), width)
		}
		lines = append(lines, text)
	}
	if len(m.list.rows) == 0 && !m.loaded.IsZero() && m.stop == nil && m.failed == "" {
		lines = append(lines, tui.Cut(marker+"nothing matches", width))
	}
	for i := len(lines); i < m.bodyHeight(); i++ {
		lines = append(lines, strings.Repeat(" ", width))
	}
	return lines
}

// shownDetail is the part of the detail that is scrolled to.
func (m *model) shownDetail() []string {
	width, _ := m.detailSize()
	all := m.detailLines(width)
	var lines []string
	for _, l := range all[min(m.detail.offset, len(all)):] {
		switch {
		case l.title:
			lines = append(lines, m.styles.Strong.Render(tui.Cut(l.text, width)))
		case l.name != "" && width > nameWidth:
			lines = append(lines, m.styles.Faint.Render(tui.Fit(l.name, nameWidth))+tui.Cut(l.text, width-nameWidth))
		case width > nameWidth && !strings.HasPrefix(l.text, marker):
			lines = append(lines, tui.Fit("", nameWidth)+tui.Cut(l.text, width-nameWidth))
		default:
			lines = append(lines, tui.Cut(l.text, width))
		}
	}
	return lines
}

// topLine is the query.
func (m *model) topLine() string {
	label, right := "audit> ", ""
	if m.intents {
		right = " +intents"
	}
	room := m.width - len(label) - len(right)
	if room < 4 {
		return tui.Cut(tui.Clean(m.query.String()), m.width)
	}
	return m.styles.Strong.Render(label) + m.query.View(room, m.at == onQuery, m.styles) + m.styles.Faint.Render(right)
}

// hintLine stands below the query: what it may go on with, or what is wrong with it.
func (m *model) hintLine() string {
	if m.at != onQuery {
		return m.styles.Faint.Render(tui.Cut(strings.Repeat(" ", 7)+m.syntax, m.width))
	}
	var names []string
	for _, o := range m.suggestions().options {
		names = append(names, tui.Clean(strings.TrimSpace(o)))
	}
	text := strings.Join(names, "  ")
	switch {
	case m.syntax != "" && text != "":
		text = "Tab: " + text + "   (" + m.syntax + ")"
	case m.syntax != "":
		text = m.syntax
	case text != "":
		text = "Tab: " + text
	}
	return m.styles.Faint.Render(tui.Cut(strings.Repeat(" ", 7)+text, m.width))
}

// statusLines say how things stand: what failed, or where one is and as of when.
func (m *model) statusLines() []string {
	switch {
	case m.at == onReason:
		return []string{m.styles.Strong.Render(tui.Cut("why do you replay "+tui.Clean(m.replay)+"? It becomes part of the log", m.width))}
	case m.failed != "":
		lines := tui.Wrap(m.failed, m.width)
		if len(lines) > statusLimit {
			lines = append(lines[:statusLimit-1], tui.Cut(lines[statusLimit-1]+" "+strings.Join(lines[statusLimit:], " "), m.width))
		}
		for i := range lines {
			lines[i] = m.styles.Bad.Render(lines[i])
		}
		return lines
	case m.notice != "":
		return []string{tui.Cut(m.notice+m.position(), m.width)}
	}
	return []string{m.styles.Faint.Render(tui.Cut(strings.TrimPrefix(m.position(), "; "), m.width))}
}

// position is where one is in the list, and how old it is.
func (m *model) position() string {
	var b strings.Builder
	if n := len(m.list.rows); n > 0 {
		fmt.Fprintf(&b, "; %d of %d", m.list.cursor+1, n)
		switch {
		case m.list.newer && m.list.older:
			b.WriteString(" in memory, more above and below")
		case m.list.newer:
			b.WriteString(" in memory, more above")
		case m.list.older:
			b.WriteString(", more below")
		}
	}
	if !m.loaded.IsZero() {
		b.WriteString("; as of " + m.loaded.Format("15:04:05"))
	}
	if m.stop != nil {
		b.WriteString("; asking the broker")
	}
	return b.String()
}

// keyLine names the keys that matter here.
func (m *model) keyLine() string {
	var text string
	switch {
	case m.help:
		text = "↑ ↓ scroll; any other key closes the help"
	case m.at == onReason:
		const label = "reason> "
		return m.styles.Strong.Render(tui.Cut(label, m.width)) + m.reason.View(max(m.width-len(label), 1), true, m.styles)
	case m.at == onQuery:
		text = "Enter open  Tab complete  ↑↓ move  Esc to the list  F1 help  Ctrl-C leave"
	case m.at == onDetail:
		text = "Esc back  ←→ next event  p replay  s u a h r jump  ? help"
		if width, height := m.detailSize(); len(m.detailLines(width)) > m.detail.offset+height {
			text = "↓ more  " + text
		}
	case len(m.history) > 0:
		text = "Enter open  / query  p replay  s u a h r jump  F refresh  Esc back  ? help"
	default:
		text = "Enter open  / query  p replay  s u a h r jump  F refresh  ? help  q leave"
	}
	return m.styles.Faint.Render(tui.Cut(text, m.width))
}
