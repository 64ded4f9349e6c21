package bastion

import (
	"strings"
	"sync"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/bastion/sftp"
)

// fileReports says what one channel does to files. It may be used by both of its directions at once.
type fileReports struct {
	s        *session
	channel  uint32
	protocol string

	mu  sync.Mutex
	ids map[uint64]string // of the reports of operations that have begun
}

func newFileReports(c *channel, protocol string) *fileReports {
	return &fileReports{s: c.s, channel: c.number, protocol: protocol, ids: map[uint64]string{}}
}

// put makes operations durable. Where that fails the session ends, as with its recording.
func (f *fileReports) put(ops []sftp.Operation) bool {
	if len(ops) == 0 {
		return true
	}
	reports := make([]api.Report, len(ops))
	for i, op := range ops {
		reports[i] = f.reportOf(op)
	}
	if err := f.s.onFiles().put(reports); err != nil {
		f.s.lostRecording(err)
		return false
	}
	return true
}

// reportOf is one report from an operation's begin to its end: until then it says that nobody knows
// how that went.
func (f *fileReports) reportOf(op sftp.Operation) api.Report {
	outcome, reason := audit.Outcome(op.Outcome), op.Reason
	if op.Outcome == sftp.Begun {
		outcome, reason = audit.Unknown, begunReason
	}
	r := f.s.report("sftp."+string(op.Kind), outcome, printable(reason), fileOperation(f.channel, f.protocol, op))
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
func fileOperation(channel uint32, protocol string, op sftp.Operation) api.FileOperation {
	d := api.FileOperation{Channel: channel, Number: op.Number, Protocol: protocol, Cut: op.Cut, Flags: op.Flags, Read: fileTransfer(op.Read),
		Written: fileTransfer(op.Written), Failed: op.Failed, Entries: op.Entries, Extension: extension(op.Name)}
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

// maxExtension is what the broker takes; it would refuse the report of a longer name for good.
const maxExtension = 64

// extension returns the name of one for people to read, in few bytes.
func extension(name string) string {
	name = printable(name)
	return strings.ToValidUTF8(name[:min(len(name), maxExtension)], "")
}

// utf8Path returns a path for people to read, and its bytes where that is another one.
func utf8Path(path string) (text string, raw []byte) {
	if text = strings.ToValidUTF8(path, "\uFFFD"); text != path {
		raw = []byte(path)
	}
	return text, raw
}

const begunReason = "the bastion was interrupted before the host had answered"
