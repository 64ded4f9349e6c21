package sftp

import "fmt"

// Kind says what an operation does.
type Kind string

// Kinds of operations. Read and Write are a file from its open to its close, List a directory, and
// Stat all that only looked, of a whole channel, as counts.
const (
	Read    Kind = "read"
	Write   Kind = "write"
	List    Kind = "list"
	Remove  Kind = "remove"
	Rename  Kind = "rename"
	Mkdir   Kind = "mkdir"
	Rmdir   Kind = "rmdir"
	Setstat Kind = "setstat"
	Symlink Kind = "symlink"
	Link    Kind = "link"
	Copy    Kind = "copy"
	Stat    Kind = "stat"
	Refuse  Kind = "refuse" // what the bastion does not let through whatever policy says
)

// Outcome says how an operation ended.
type Outcome string

// Outcomes. Begun is none yet: the host is about to see a request, and the same operation comes
// again, with the same number, when it has ended.
const (
	Begun   Outcome = ""
	Success Outcome = "success"
	Failure Outcome = "failure" // the host said so
	Denied  Outcome = "denied"  // the host has not seen it
	Unknown Outcome = "unknown" // the channel ended first
)

// Operation is what was done, or was not let happen.
type Operation struct {
	Number   uint64 // in the channel, from 1
	Kind     Kind
	Outcome  Outcome
	Reason   string // why not, in words of ours
	Path, To string // as they were sent, up to 4 KiB each; of a link Path is what is made, To what it leads to
	Cut      bool   // one of them was longer
	Flags    string // of an open: "read", "write", "append", "create", "truncate", "exclusive", joined by commas
	Attrs    *Attributes
	Read     *Transfer // what went to the person
	Written  *Transfer // what went to the host
	Entries  int64     // of a list
	Range    *Range    // of a copy
	Failed   int64     // requests within a read or a write that the host answered with an error
	Counts   map[string]Count
	Name     string // of an extension that was refused
}

// Attributes are those that a request sets; nil where it does not.
type Attributes struct {
	Size               *uint64
	UID, GID           *uint32
	Mode               *uint32
	Accessed, Modified *uint32 // seconds since 1970
}

// Range is what copy-data copies on the host; Bytes of 0 is up to the end.
type Range struct{ Offset, Bytes, To uint64 }

// Count is how often something was asked, and how often the host answered with an error.
type Count struct{ Count, Failed int64 }

// Error says that one end does not speak the protocol. It ends the channel.
type Error struct {
	Host bool // it was the host; else the person's program
	Text string
}

func (e *Error) Error() string {
	who := "the client"
	if e.Host {
		who = "the host"
	}
	return fmt.Sprintf("sftp: %s %s", who, e.Text)
}

// reasons are the words for codes of a status.
var reasons = map[uint32]string{
	2: "no such file", statusDenied: "permission denied by the host", statusFailure: "failure", 5: "bad message",
	6: "no connection", 7: "connection lost", statusUnsupported: "not supported by the host",
}

// because is the reason in a status.
func because(code uint32) string {
	if r, ok := reasons[code]; ok {
		return r
	}
	return fmt.Sprintf("status %d", code)
}

// flagNames says what an open asks for. Bits that version 3 does not know are left out.
func flagNames(flags uint32) string {
	out := ""
	for _, f := range []struct {
		bit  uint32
		name string
	}{{flagRead, "read"}, {flagWrite, "write"}, {flagAppend, "append"}, {flagCreate, "create"}, {flagTrunc, "truncate"}, {flagExcl, "exclusive"}} {
		if flags&f.bit == 0 {
			continue
		}
		if out != "" {
			out += ","
		}
		out += f.name
	}
	return out
}
