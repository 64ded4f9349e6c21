package bastion

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/broker/api"
	"sega/broker/bastion/sftp"
)

// files carries a channel whose program is the sftp subsystem. Each chunk goes read, record, report,
// forward: what the log says of an operation is on disk before the host sees the request, and how it
// ended before the person sees the answer.
type files struct {
	c        *channel
	reports  *fileReports
	observer *sftp.Observer

	turn sync.Mutex // to write to the person, at the end of a packet; held by fromHost in between

	mu     sync.Mutex
	broken error // why the channel has to end
}

func newFiles(c *channel, g api.ChannelGrant) *files {
	return &files{c: c, reports: newFileReports(c, api.ProtocolSFTP), observer: sftp.New(sftp.Config{Content: !g.OmitContent, ReadOnly: g.ReadOnly})}
}

// toHost ends like a pump, and when the channel has to end.
func (f *files) toHost() {
	buf := make([]byte, smallBuffer)
	for {
		n, err := f.c.client.Read(buf)
		for rest := buf[:n]; len(rest) > 0; {
			step, done := f.observer.Client(rest)
			if !f.carry(step, recording.StreamIn, f.c.host, &f.c.s.in) || done == 0 {
				return
			}
			rest = rest[done:]
		}
		if err != nil {
			return
		}
		buf = resize(buf, n, largeBuffer)
	}
}

// toPerson is toHost for the other direction.
func (f *files) toPerson() {
	defer f.observer.Over()
	buf, held := make([]byte, smallBuffer), false
	defer func() {
		if held {
			f.turn.Unlock()
		}
	}()
	for {
		n, err := f.c.host.Read(buf)
		if n > 0 {
			step := f.observer.Host(buf[:n])
			if !held {
				f.turn.Lock()
				held = true
			}
			if !f.carry(step, recording.StreamOut, f.c.client, &f.c.s.out) {
				return
			}
			if f.observer.Between() {
				held = false
				f.turn.Unlock()
			}
		}
		if err != nil {
			return
		}
		buf = resize(buf, n, largeBuffer)
	}
}

// carry does what a step says. It returns false where nothing more may flow.
func (f *files) carry(step sftp.Step, stream recording.Stream, to io.Writer, count *atomic.Int64) bool {
	defer step.Wait()
	for _, p := range step.Record {
		if !f.record(stream, p) {
			return false
		}
	}
	if f.why() != nil || !f.reports.put(step.Operations) {
		return false
	}
	for _, b := range step.Forward {
		sent, err := to.Write(b)
		if count.Add(int64(sent)); err != nil {
			return false
		}
	}
	if len(step.Reply) > 0 && !f.answer(step.Reply) {
		return false
	}
	if step.Err != nil {
		f.breakOff(step.Err)
	}
	return step.Err == nil
}

func (f *files) record(stream recording.Stream, p sftp.Piece) bool {
	if p.Content {
		return f.c.s.recordOmitted(f.c.number, stream, len(p.Bytes))
	}
	return f.c.s.recordData(f.c.number, stream, p.Bytes)
}

// answer tells the person what the bastion says in the host's place.
func (f *files) answer(b []byte) bool {
	f.turn.Lock()
	defer f.turn.Unlock()
	if !f.c.s.recordData(f.c.number, recording.StreamOut, b) {
		return false
	}
	sent, err := f.c.client.Write(b)
	f.c.s.out.Add(int64(sent))
	return err == nil
}

// breakOff ends a channel of which one end does not keep to the protocol; the session lives on.
func (f *files) breakOff(why error) {
	f.mu.Lock()
	if f.broken == nil {
		f.broken = why
	}
	f.mu.Unlock()
	f.c.s.b.cfg.Log.Warn("sftp channel ended", "session", f.c.s.hop.SessionID, "channel", f.c.number, "error", why)
	f.c.s.record(f.c.number, recording.Event{Type: recording.EventRefuse, Name: api.SubsystemSFTP, Reason: printable(why.Error())})
	_ = f.c.host.Close()
}

// why returns why the channel had to end, or nil.
func (f *files) why() error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken
}

// end records and reports what has found no end of its own. Nothing flows any more.
func (f *files) end() {
	client, host, unfinished := f.observer.End()
	_ = f.c.s.recordData(f.c.number, recording.StreamIn, client)
	_ = f.c.s.recordData(f.c.number, recording.StreamOut, host)
	if why := f.why(); why != nil {
		unfinished = append(unfinished, sftp.Operation{Kind: sftp.Refuse, Outcome: sftp.Failure, Reason: why.Error()})
	}
	f.reports.put(unfinished)
}

// sayBroken tells the person why a channel has ended amid its work.
func (c *channel) sayBroken(why error) {
	var e *sftp.Error
	if errors.As(why, &e) {
		c.say("sega: the channel was ended: " + printable(e.Error()))
	}
	if !c.exited {
		_, _ = c.client.SendRequest("exit-status", false, ssh.Marshal(exitStatus{exitRefused}))
	}
}
