package scp

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"
	"sync"

	"sega/broker/bastion/sftp"
)

const (
	maxLine   = 8 << 10 // of the protocol: a mode, a size and a name
	maxFolder = 256     // folders within each other
	maxPath   = 4 << 10 // of a path that is kept
	lostText  = "the bytes are not those of scp; nothing more is followed"
	endedText = "the channel ended first"
)

// expects says what comes next of the end that sends files.
type expects byte

const (
	answer  expects = iota // nothing: the other end answers first
	line                   // a line of the protocol
	content                // bytes of the file
	status                 // whether all of them could be read
	text                   // of a status that is an error
)

// Follower follows one channel. Client and Host may be called concurrently, each by one caller.
type Follower struct {
	there  bool // files go to the host
	target string

	mu      sync.Mutex
	next    expects
	after   func(ok bool) // what an answer leads to
	line    []byte        // of the source, as far as it is there
	reply   []byte        // of the sink, likewise; nil between two
	folders []string
	lost    bool
	number  uint64
	ops     []sftp.Operation

	op      *sftp.Operation // the file that goes over
	left    int64           // bytes of it
	hash    hash.Hash
	failing bool // the source could not read all of it
}

// New returns a Follower of what a command starts, or nil where that is not scp's far end.
func New(command string) *Follower {
	there, target, ok := parse(command)
	if !ok {
		return nil
	}
	f := &Follower{there: there, target: clip(target)}
	f.after = func(bool) { f.next = line }
	return f
}

func clip(s string) string { return s[:min(len(s), maxPath)] }

// Client takes bytes of the person's, and returns what they begin or end.
func (f *Follower) Client(b []byte) []sftp.Operation { return f.take(b, f.there) }

// Host takes bytes of the host's.
func (f *Follower) Host(b []byte) []sftp.Operation { return f.take(b, !f.there) }

func (f *Follower) take(b []byte, source bool) []sftp.Operation {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(b) > 0 && !f.lost {
		if source {
			b = f.fromSource(b)
		} else {
			b = f.fromSink(b)
		}
	}
	ops := f.ops
	f.ops = nil
	return ops
}

// End returns what has found no end.
func (f *Follower) End() []sftp.Operation {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end(sftp.Unknown, endedText)
	ops := f.ops
	f.ops = nil
	return ops
}

// lose gives up: from here on nobody knows what a byte means.
func (f *Follower) lose() []byte {
	f.end(sftp.Unknown, lostText)
	f.number++
	f.ops = append(f.ops, sftp.Operation{Number: f.number, Kind: sftp.Refuse, Outcome: sftp.Unknown, Reason: lostText})
	f.lost, f.line, f.reply = true, nil, nil
	return nil
}

// fromSource takes bytes of the end that sends files, and returns those that are left.
func (f *Follower) fromSource(b []byte) []byte {
	switch f.next {
	case content:
		n := int(min(int64(len(b)), f.left))
		f.hash.Write(b[:n])
		if f.left -= int64(n); f.left == 0 {
			f.next = status
		}
		return b[n:]
	case status:
		if f.failing = b[0] != 0; f.failing {
			f.next = text
		} else {
			f.await(f.fileDone)
		}
		return b[1:]
	case line, text:
		return f.collect(b)
	}
	return f.lose() // it has not waited for the answer
}

// collect gathers a line.
func (f *Follower) collect(b []byte) []byte {
	whole, rest, found := cutLine(b)
	if len(f.line)+len(whole) > maxLine {
		return f.lose()
	}
	f.line = append(f.line, whole...)
	if !found {
		return nil
	}
	got := string(f.line)
	f.line = f.line[:0]
	if f.next == text {
		f.await(f.fileDone)
		return rest
	}
	if !f.read(got) {
		return f.lose()
	}
	return rest
}

func cutLine(b []byte) (whole, rest []byte, found bool) {
	for i, c := range b {
		if c == '\n' {
			return b[:i], b[i+1:], true
		}
	}
	return b, nil, false
}

// read takes one line of the protocol.
func (f *Follower) read(s string) bool {
	if s == "" {
		return false
	}
	switch s[0] {
	case 'C', 'D':
		return f.begin(s[0] == 'D', s[1:])
	case 'E':
		if len(f.folders) == 0 || s != "E" {
			return false
		}
		f.folders = f.folders[:len(f.folders)-1]
		f.await(func(bool) { f.next = line })
	case 'T':
		f.await(func(bool) { f.next = line })
	case 1, 2: // what could not be sent; nobody answers
	default:
		return false
	}
	return true
}

// await expects an answer and then goes on.
func (f *Follower) await(after func(ok bool)) { f.next, f.after = answer, after }

// begin reads "MODE SIZE NAME" of a file or a folder. Neither begins unless the answer is yes.
func (f *Follower) begin(folder bool, s string) bool {
	modeText, s, _ := strings.Cut(s, " ")
	sizeText, name, named := strings.Cut(s, " ")
	mode, err := strconv.ParseUint(modeText, 8, 32)
	size, err2 := strconv.ParseInt(sizeText, 10, 64)
	if err != nil || err2 != nil || size < 0 || !named || name == "" {
		return false
	}
	if folder {
		if len(f.folders) >= maxFolder {
			return false
		}
		f.await(func(ok bool) {
			if f.next = line; ok {
				f.folders = append(f.folders, clip(name))
			}
		})
		return true
	}
	m := uint32(mode)
	f.number++
	f.op = &sftp.Operation{Number: f.number, Kind: sftp.Write, Path: clip(strings.Join(append(append([]string(nil), f.folders...), name), "/")), To: f.target, Attrs: &sftp.Attributes{Mode: &m}}
	if !f.there {
		f.op.Kind = sftp.Read
	}
	f.ops = append(f.ops, *f.op)
	f.left, f.hash, f.failing = size, sha256.New(), false
	f.await(func(ok bool) {
		if !ok {
			f.next = line
			f.end(sftp.Failure, "the other end did not take it")
			return
		}
		f.op.Written = &sftp.Transfer{Bytes: size}
		if f.next = content; size == 0 {
			f.next = status
		}
	})
	return true
}

// fileDone is the answer after the last byte of a file.
func (f *Follower) fileDone(ok bool) {
	f.next = line
	switch {
	case !ok:
		f.end(sftp.Failure, "the other end could not keep all of it")
	case f.failing:
		f.end(sftp.Failure, "not all of it could be read")
	default:
		f.end(sftp.Success, "")
	}
}

// end ends the file that goes over, if there is one.
func (f *Follower) end(outcome sftp.Outcome, reason string) {
	if f.op == nil {
		return
	}
	op := f.op
	f.op = nil
	if t := op.Written; t != nil {
		t.Bytes -= f.left
		t.Runs = []sftp.Run{{Bytes: t.Bytes, SHA256: hex.EncodeToString(f.hash.Sum(nil))}}
		if !f.there {
			op.Read, op.Written = t, nil
		}
	}
	op.Outcome, op.Reason = outcome, reason
	f.ops = append(f.ops, *op)
}

// fromSink takes bytes of the end that gets files: a zero byte for yes, else a line of why not.
func (f *Follower) fromSink(b []byte) []byte {
	if f.reply == nil {
		if f.next != answer {
			return f.lose()
		}
		switch b[0] {
		case 0:
			f.after(true)
		case 1, 2:
			f.reply = b[:1:1]
		default:
			return f.lose()
		}
		return b[1:]
	}
	whole, rest, found := cutLine(b)
	if len(f.reply)+len(whole) > maxLine {
		return f.lose()
	}
	f.reply = append(f.reply, whole...)
	if !found {
		return nil
	}
	f.reply = nil
	f.after(false)
	return rest
}
