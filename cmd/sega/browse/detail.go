package browse

import (
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"sega/audit"
	"sega/cmd/sega/tui"
)

// detail is the event that is shown whole, and how far it is scrolled.
type detail struct {
	row    row
	offset int
}

// open shows the chosen event.
func (m *model) open() {
	if r, ok := m.list.chosen(); ok {
		m.detail, m.at = detail{row: r}, onDetail
	}
}

// current is the event that keys speak of.
func (m *model) current() (row, bool) {
	if m.at == onDetail {
		return m.detail.row, true
	}
	return m.list.chosen()
}

func (m *model) pressDetail(msg tea.KeyMsg) tea.Cmd {
	switch {
	case key.Matches(msg, m.keys.leave, m.keys.quit, m.keys.open):
		m.at = onList
	case key.Matches(msg, m.keys.neighbours):
		m.list.move(map[string]int{"left": -1, "right": 1}[msg.String()], m.listHeight())
		m.open()
		return m.more()
	case key.Matches(msg, m.keys.related):
		m.openRelated(int(msg.Runes[0] - '1'))
	case key.Matches(msg, m.keys.jumps):
		return m.jump(msg.String())
	case key.Matches(msg, m.keys.replay):
		m.askReason()
	case key.Matches(msg, m.keys.edit):
		m.at = onQuery
	default:
		m.scroll(msg.String())
	}
	return nil
}

func (m *model) openRelated(i int) {
	all := m.related(m.detail.row)
	if i >= len(all) {
		m.notice = "there is no related event " + strconv.Itoa(i+1)
		return
	}
	m.list.cursor = m.list.find(all[i].index)
	m.open()
}

func (m *model) scroll(key string) {
	width, height := m.detailSize()
	m.detail.offset = scrolled(m.detail.offset, key, len(m.detailLines(width)), height)
}

// scrolled is an offset into so many lines on a screen of a height, after a key.
func scrolled(offset int, key string, lines, height int) int {
	by := map[string]int{"up": -1, "k": -1, "down": 1, "j": 1, "pgup": 1 - height, "pgdown": height - 1, " ": height - 1, "home": -lines, "g": -lines, "end": lines, "G": lines}
	return max(min(offset+by[key], lines-height), 0)
}

// line is one of the detail: a title, or a value's part.
type line struct {
	name, text string
	title      bool
}

// nameWidth is that of the names before values.
const nameWidth = 16

// detailLines is the event in lines of a width: what was done, what is not
// empty of the envelope, where keys lead, the details.
func (m *model) detailLines(width int) []line {
	r := m.detail.row
	title := "event " + itoa(r.index)
	if r.broken != "" {
		return append([]line{{text: title, title: true}}, value("unreadable", r.broken, width)...)
	}
	out := []line{{text: title + "  " + r.kind + "  " + r.outcome, title: true}}
	if c := audit.Content(r.event); c != "" {
		out = append(append(out, block(c, width)...), line{})
	}
	for _, f := range r.fields(m.Now()) {
		out = append(out, value(f[0], f[1], width)...)
	}
	out = append(out, m.jumpLines(r, width)...)
	switch {
	case r.tooLong > 0:
		out = append(out, line{})
		out = append(out, value("details", strconv.Itoa(r.tooLong)+" bytes, too long for here; run: sega audit query id:"+r.event.ID+" --json", width)...)
	case len(r.event.Details) > 0:
		out = append(out, line{}, line{text: "details", title: true})
		out = append(out, block(r.details(), width)...)
	}
	return out
}

// fields are the envelope's, those that are not empty. Kind and outcome stand in the title.
func (r row) fields(now time.Time) [][2]string {
	e := r.event
	all := [][2]string{
		{"time", e.Time.In(now.Location()).Format("2006-01-02 15:04:05.000 -0700")}, {"id", e.ID},
		{"who", strings.TrimSpace(e.Actor.Email + " (" + e.Actor.Kind + ")")}, {"subject", e.Actor.Sub}, {"issuer", e.Actor.Iss},
		{"resource", e.Resource}, {"reason", e.Reason}, {"ticket", e.Ticket}, {"source", e.Source}, {"node", e.Node},
		{"session", e.SessionID}, {"login", e.LoginID}, {"action", e.Action}, {"request", e.RequestID},
		{"policies", strings.Join(e.PolicyIDs, ", ")}, {"policy digest", e.PolicyDigest}, {"details digest", e.DetailsDigest},
	}
	var out [][2]string
	for _, f := range all {
		if f[1] != "" {
			out = append(out, f)
		}
	}
	return out
}

// jumpLines are the keys that lead on from here.
func (m *model) jumpLines(r row, width int) []line {
	out := []line{{}, {text: "keys", title: true}}
	if r.replayable() != "" {
		out = append(out, line{name: "p", text: "replay the session"})
	}
	for _, t := range r.targets() {
		out = append(out, line{name: t.key, text: tui.Cut("all of this "+t.name+": "+tui.Clean(tui.Clip(t.value, cellLimit)), width-nameWidth)})
	}
	for i, v := range m.related(r) {
		if i == 0 {
			out = append(out, line{}, line{text: "related, in the list", title: true})
		}
		text := itoa(v.index) + "  " + v.when(m.Now(), len(stampShort)) + "  " + v.kind + "  " + v.outcome + "  " + v.reason
		out = append(out, line{name: strconv.Itoa(i + 1), text: tui.Cut(text, width-nameWidth)})
	}
	return out
}

// value is a name and its value, which goes on below where it is long.
func value(name, text string, width int) []line {
	var out []line
	for i, part := range tui.Wrap(tui.Clean(text), width-nameWidth) {
		if i > 0 {
			name = ""
		}
		out = append(out, line{name: name, text: part})
	}
	return out
}

// block is text of several lines, indented as it is.
func block(text string, width int) []line {
	var out []line
	for part := range strings.SplitSeq(text, "\n") {
		for _, l := range tui.Wrap(tui.Clean(part), width-len(marker)) {
			out = append(out, line{text: marker + l})
		}
	}
	return out
}
