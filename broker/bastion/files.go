package bastion

import (
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/recording"
	"sega/broker/api"
	"sega/broker/bastion/sftp"
)

// files carries a channel whose program is the sftp subsystem. Each chunk goes read, record, report,
// forward: what the log says of an operation is on disk before the host sees the request, and how it
// ended before the person sees the answer.
type files struct {
	c        *channel
	observer *sftp.Observer

	turn sync.Mutex // to write to the person, at the end of a packet; held by fromHost in between

	mu     sync.Mutex
	broken error             // why the channel has to end
	ids    map[uint64]string // of the reports of operations that have begun
}

func newFiles(c *channel, g api.ChannelGrant) *files {
	return &files{c: c, ids: map[uint64]string{}, observer: sftp.New(sftp.Config{Content: !g.OmitContent, ReadOnly: g.ReadOnly})}
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
		buf = resize(buf, n)
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
		buf = resize(buf, n)
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
	if f.why() != nil || !f.report(step.Operations) {
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
	f.report(unfinished)
}

// report makes operations durable. Where that fails the session ends, as with its recording.
func (f *files) report(ops []sftp.Operation) bool {
	if len(ops) == 0 {
		return true
	}
	reports := make([]api.Report, len(ops))
	for i, op := range ops {
		reports[i] = f.reportOf(op)
	}
	if err := f.c.s.onFiles().put(reports); err != nil {
		f.c.s.lostRecording(err)
		return false
	}
	return true
}

// reportOf is one report from an operation's begin to its end: until then it says that nobody knows
// how that went.
func (f *files) reportOf(op sftp.Operation) api.Report {
	outcome, reason := audit.Outcome(op.Outcome), op.Reason
	if op.Outcome == sftp.Begun {
		outcome, reason = audit.Unknown, begunReason
	}
	r := f.c.s.report("sftp."+string(op.Kind), outcome, printable(reason), fileOperation(f.c.number, op))
	f.mu.Lock()
	defer f.mu.Unlock()
	if id, begun := f.ids[op.Number]; begun {
		r.ID = id
		delete(f.ids, op.Number)
	} else if op.Outcome == sftp.Begun {
		f.ids[op.Number] = r.ID
	}
	return r
}

// fileOperation is an operation as the log has it.
func fileOperation(channel uint32, op sftp.Operation) api.FileOperation {
	d := api.FileOperation{Channel: channel, Number: op.Number, Protocol: api.ProtocolSFTP, Cut: op.Cut, Flags: op.Flags, Read: fileTransfer(op.Read),
		Written: fileTransfer(op.Written), Failed: op.Failed, Entries: op.Entries, Extension: printable(op.Name)}
	d.Path, d.Raw = utf8Path(op.Path)
	to, raw := utf8Path(op.To)
	if d.To = to; raw != nil {
		d.ToBytes = &api.RawBytes{Raw: raw}
	}
	if a := op.Attrs; a != nil {
		d.Attributes = &api.FileAttributes{Size: a.Size, UID: a.UID, GID: a.GID, Mode: a.Mode, Accessed: a.Accessed, Modified: a.Modified}
	}
	if r := op.Range; r != nil {
		d.Range = &api.FileRange{Offset: r.Offset, Bytes: r.Bytes, To: r.To}
	}
	for name, c := range op.Counts {
		if d.Counts == nil {
			d.Counts = map[string]api.Attempts{}
		}
		d.Counts[name] = api.Attempts{Count: c.Count, Failed: c.Failed}
	}
	return d
}

func fileTransfer(t *sftp.Transfer) *api.FileTransfer {
	if t == nil {
		return nil
	}
	out := &api.FileTransfer{Bytes: t.Bytes}
	for _, r := range t.Runs {
		out.Runs = append(out.Runs, api.FileRun{Offset: r.Offset, Bytes: r.Bytes, SHA256: r.SHA256})
	}
	if t.Rest != nil {
		out.Rest = &api.FileRest{Bytes: t.Rest.Bytes, SHA256: t.Rest.SHA256}
	}
	return out
}

// utf8Path returns a path for people to read, and its bytes where that is another one.
func utf8Path(path string) (text string, raw []byte) {
	if text = strings.ToValidUTF8(path, "\uFFFD"); text != path {
		raw = []byte(path)
	}
	return text, raw
}

const begunReason = "the bastion was interrupted before the host had answered"

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
