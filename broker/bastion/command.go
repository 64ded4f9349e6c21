package bastion

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"sega/audit/recording"
	"sega/broker/api"
)

const (
	maxCommand = 32 << 10
	askTimeout = 10 * time.Second
)

// errNotAsked is followed by nothing that the broker has said.
var errNotAsked = errors.New("the broker did not log it")

// ask makes the broker decide whether something may begin in the session, and log that. Only where the
// error is nil may it begin; else the error is for the person.
func (s *session) ask(r api.ChannelRequest) (api.ChannelGrant, error) {
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	r.ID, r.Time, r.SessionID = newEventID(), s.b.cfg.Now().UTC(), s.hop.SessionID
	grant, err := s.b.cfg.Control.Channel(ctx, r)
	switch {
	case decided(err):
		return api.ChannelGrant{}, err
	case err != nil:
		s.b.cfg.Log.Warn("nothing begins: the broker was not asked", "session", s.hop.SessionID, "type", r.Type, "error", err)
		return api.ChannelGrant{}, errNotAsked
	case !grant.Allow && grant.Hint != "":
		return api.ChannelGrant{}, hint(errors.New(grant.Reason), "%s", printable(grant.Hint))
	case !grant.Allow:
		return api.ChannelGrant{}, errors.New(grant.Reason)
	}
	return grant, nil
}

// commandRequest says what program is asked for. The recording has every byte of it.
func commandRequest(channel uint32, e recording.Event) api.ChannelRequest {
	what := e.Command
	if e.Type == recording.EventSubsystem {
		what = e.Name
	}
	r := api.ChannelRequest{Channel: channel, Type: e.Type}
	if len(what) > maxCommand {
		what, r.Cut = what[:maxCommand], true
	}
	r.Command = strings.ToValidUTF8(what, "\uFFFD")
	if r.Command != what {
		r.Raw = []byte(what)
	}
	return r
}

// mayStart asks for a program before the host gets to see it.
func (c *channel) mayStart(e recording.Event) error {
	grant, err := c.s.ask(commandRequest(c.number, e))
	if err != nil {
		c.s.record(c.number, recording.Event{Type: recording.EventRefuse, Name: e.Type, Reason: printable(err.Error())})
	}
	c.grant = grant
	return err
}

// notStarted ends the channel of a program that may not start. The request itself is granted: a client
// that is refused says no more than that. The session's other channels live on.
func (c *channel) notStarted(why error) bool {
	if c.hasBegun() {
		return false // another program runs here
	}
	lines := explain(why)
	if errors.Is(why, errNotAsked) {
		lines = []string{"sega: the command was not started, since the broker did not log it; try again"}
	}
	c.say(strings.Join(lines, "\r\n"))
	_, _ = c.client.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, exitRefused))
	_ = c.host.Close()
	return true
}
