package browse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"sega/cmd/sega/tui"
)

// reasonLimit is how long a reason may be, in bytes; the broker keeps as much.
const reasonLimit = 1000

// askReason asks why the session is replayed: the broker writes it into the log.
func (m *model) askReason() {
	r, ok := m.current()
	switch {
	case !ok:
	case r.replayable() == "":
		m.notice = "nothing was recorded here: only events of an SSH session have a replay"
	case m.Playable != nil && m.unplayable(m.Playable()):
	default:
		m.replay, m.reason, m.back, m.at = r.replayable(), tui.NewInput("", reasonLimit), m.at, onReason
	}
}

// unplayable reports whether there is an error, and shows it.
func (m *model) unplayable(err error) bool {
	if err != nil {
		m.failed = m.explain(err)
	}
	return err != nil
}

func (m *model) pressReason(msg tea.KeyMsg) tea.Cmd {
	switch msg.Type {
	case tea.KeyEsc:
		m.at, m.notice = m.back, "no replay"
	case tea.KeyEnter:
		reason := strings.TrimSpace(m.reason.String())
		if m.at = m.back; reason == "" {
			m.notice = "no replay: a reason is needed, which becomes part of the log"
			return nil
		}
		m.failed = ""
		return tea.Exec(&player{ctx: m.ctx, play: m.Play, session: m.replay, reason: reason}, func(err error) tea.Msg { return played{err} })
	default:
		m.reason.Key(msg)
	}
	return nil
}

// played says how a replay went.
type played struct{ err error }

func (m *model) played(p played) {
	if p.err != nil && !errors.Is(p.err, errStopped) {
		m.failed = m.explain(p.err)
	}
}

// errStopped is that the reviewer ended the replay.
var errStopped = errors.New("the replay was stopped")

// player runs the replay while the browser has let go of the terminal (tea.ExecCommand).
type player struct {
	ctx             context.Context
	play            func(ctx context.Context, session, reason string) error
	session, reason string
	out             io.Writer
}

func (p *player) SetStdin(io.Reader)    {}
func (p *player) SetStdout(w io.Writer) { p.out = w }
func (p *player) SetStderr(io.Writer)   {}

// Run implements tea.ExecCommand.
func (p *player) Run() error {
	fmt.Fprintf(p.out, "replay of %s\r\n", tui.Clean(p.session))
	err := p.play(p.ctx, p.session, p.reason)
	if errors.Is(err, context.Canceled) && p.ctx.Err() == nil {
		return errStopped
	}
	return err
}
