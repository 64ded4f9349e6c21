package picker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/lipgloss"

	"sega/cmd/sega/tui"
)

// Measures of the screen.
const (
	smallHeight = 6  // below it what can be spared goes
	tallHeight  = 12 // from here on, more is said of the chosen role
)

// View implements tea.Model: exactly as many lines as the screen has, none wider than it.
func (m *model) View() string {
	var lines []string
	switch {
	case m.small() && m.at != onList:
		lines = append(lines, m.answerLine(), m.question())
	case m.small():
		lines = append(append(lines, m.topLine()), m.listLines()...)
	default:
		lines = append(append(lines, m.topLine(), m.headerLine()), m.listLines()...)
		lines = append(lines, m.aboutLines()...)
		lines = append(lines, m.keyLine())
	}
	for len(lines) < m.height {
		lines = append(lines, "")
	}
	return strings.Join(lines[:max(m.height, 1)], "\n")
}

func (m *model) small() bool { return m.height < smallHeight }

// aboutHeight is the number of lines about the chosen role.
func (m *model) aboutHeight() int {
	if m.height >= tallHeight {
		return 2
	}
	return 1
}

// listHeight is the number of rows on the screen.
func (m *model) listHeight() int {
	if m.small() {
		return max(m.height-1, 1)
	}
	return m.height - 3 - m.aboutHeight()
}

// topLine is the query, and how many roles fit it.
func (m *model) topLine() string {
	const label = "role> "
	count := fmt.Sprintf(" %d/%d", len(m.hits), len(m.rows))
	room := m.width - len(label) - len(count)
	if room < 4 {
		return tui.Cut(tui.Clean(m.query.String()), m.width)
	}
	return m.styles.Strong.Render(label) + m.query.View(room, m.at == onList, m.styles) + m.styles.Faint.Render(count)
}

func (m *model) headerLine() string {
	return m.styles.Faint.Render(tui.Fit(m.widths.layout(m.width).header(), m.width))
}

// listLines are the rows on the screen, and blank lines below them.
func (m *model) listLines() []string {
	height, c := m.listHeight(), m.widths.layout(m.width)
	var lines []string
	for i, h := range m.hits[m.top:min(m.top+height, len(m.hits))] {
		plain := c.line(marker, h, nil)
		switch {
		case m.top+i == m.cursor:
			lines = append(lines, m.styles.Chosen.Render(tui.Fit(c.line(arrow, h, nil), m.width)))
		case tui.Cells(plain) > m.width: // too narrow for any column
			lines = append(lines, tui.Cut(plain, m.width))
		case h.role.Refused != "":
			lines = append(lines, m.styles.Faint.Render(plain))
		default:
			lines = append(lines, c.line(marker, h, m.painter(h)))
		}
	}
	if len(m.hits) == 0 {
		lines = append(lines, tui.Cut(marker+m.nothing(), m.width))
	}
	for len(lines) < height {
		lines = append(lines, "")
	}
	return lines[:height]
}

// nothing says why the list is empty.
func (m *model) nothing() string {
	switch {
	case len(m.rows) == 0:
		return "the broker has no roles"
	case m.query.String() == "" && !m.refused:
		return "no role is allowed; Tab shows all"
	case !m.refused:
		return "nothing fits; Tab searches all roles"
	}
	return "nothing fits"
}

// painter marks what fits the query, and what is needed.
func (m *model) painter(h hit) func(int, string) string {
	return func(column int, cell string) string {
		switch column {
		case 0:
			return marked(cell, h.marks[ofName], m.styles.Strong)
		case 1:
			return marked(cell, h.marks[ofAccount], m.styles.Strong)
		case 4:
			return m.styles.Odd.Render(cell)
		case 5:
			return marked(cell, h.marks[ofDescription], m.styles.Strong)
		}
		return cell
	}
}

// marked gives some runes of a cell a style; those that were cut off are not there.
func marked(cell string, at []int, style lipgloss.Style) string {
	if len(at) == 0 {
		return cell
	}
	var b strings.Builder
	for i, r := range []rune(cell) {
		if slices.Contains(at, i) && r != '…' {
			b.WriteString(style.Render(string(r)))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// aboutLines say of the chosen role what columns have no room for, or what is asked.
func (m *model) aboutLines() []string {
	height := m.aboutHeight()
	if m.at != onList && m.notice == "" {
		return append([]string{m.question()}, make([]string, height-1)...)
	}
	text, style := m.notice, m.styles.Bad
	if h, ok := m.chosen(); ok && text == "" {
		text, style = about(h), m.styles.Faint
	}
	lines := tui.Wrap(text, m.width)
	if len(lines) > height {
		lines = append(lines[:height-1], tui.Cut(strings.Join(lines[height-1:], " "), m.width))
	}
	for i := range lines {
		lines[i] = style.Render(lines[i])
	}
	return append(lines, make([]string, height-len(lines))...)
}

// about is the chosen role in words: first what matters when picking it.
func about(h hit) string {
	if h.role.Refused != "" {
		return h.need
	}
	var parts []string
	if needs := h.role.needs(", "); needs != "" {
		parts = append(parts, "needs "+needs)
	}
	if h.role.NeedsFresh {
		parts = append(parts, "run sega login first")
	}
	if h.max != "" {
		parts = append(parts, "up to "+h.max)
	}
	if h.mode != "" {
		parts = append(parts, "by "+h.mode)
	}
	if h.account != "" {
		parts = append(parts, "account "+h.account)
	}
	if h.description != "" {
		parts = append(parts, h.description)
	}
	return strings.Join(parts, "; ")
}

// question is what is asked of the person.
func (m *model) question() string {
	name := tui.Clean(m.choice.Role)
	text := "why do you need " + name + "? It becomes part of the log"
	if m.at == onTicket {
		text = "which ticket is it for? It becomes part of the log"
	}
	return m.styles.Strong.Render(tui.Cut(text, m.width))
}

// answerLine is where the person answers.
func (m *model) answerLine() string {
	label := "reason> "
	if m.at == onTicket {
		label = "ticket> "
	}
	room := m.width - len(label)
	if room < 4 {
		return tui.Cut(tui.Clean(m.answer.String()), m.width)
	}
	return m.styles.Strong.Render(label) + m.answer.View(room, true, m.styles)
}

// keyLine names the keys.
func (m *model) keyLine() string {
	if m.at != onList {
		return m.answerLine()
	}
	all := "Tab all"
	if m.refused {
		all = "Tab allowed"
	}
	return m.styles.Faint.Render(tui.Cut("Enter pick  ↑↓ move  "+all+"  Esc cancel", m.width))
}
