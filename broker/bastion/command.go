package bastion

import (
	"context"
	"encoding/binary"
	"strings"

	"sega/audit"
	"sega/audit/recording"
	"sega/broker/api"
)

// commandDetail says what was started. The recording has every byte of it.
type commandDetail struct {
	Channel uint32 `json:"channel"`
	Type    string `json:"type"`
	Command string `json:"command"`
	Raw     []byte `json:"raw,omitempty"` // the command again, where it is not UTF-8
	Cut     bool   `json:"cut,omitempty"` // only the first maxCommand bytes are here
}

func newCommandDetail(channel uint32, e recording.Event) commandDetail {
	what := e.Command
	if e.Type == recording.EventSubsystem {
		what = e.Name
	}
	d := commandDetail{Channel: channel, Type: e.Type}
	if len(what) > maxCommand {
		what, d.Cut = what[:maxCommand], true
	}
	d.Command = strings.ToValidUTF8(what, "\uFFFD")
	if d.Command != what {
		d.Raw = []byte(what)
	}
	return d
}

// reportCommand makes the broker log a program before the host gets to see it.
func (c *channel) reportCommand(e recording.Event) bool {
	ctx, cancel := context.WithTimeout(c.s.ctx, reportCommandTimeout)
	defer cancel()
	err := c.s.b.cfg.Control.Report(ctx, []api.Report{c.s.report(kindCommand, audit.Success, "",
		newCommandDetail(c.number, e))})
	if err == nil {
		return true
	}
	c.s.b.cfg.Log.Warn("command refused: not reported", "session", c.s.hop.SessionID, "error", err)
	return false
}

// notStarted ends the channel of a program that could not be logged. The request itself is granted:
// a client that is refused says no more than that.
func (c *channel) notStarted() bool {
	if c.hasBegun() {
		return false // another program runs here
	}
	c.say("sega: the command was not started, since the broker did not log it; try again")
	_, _ = c.client.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, exitRefused))
	_ = c.host.Close()
	return true
}
