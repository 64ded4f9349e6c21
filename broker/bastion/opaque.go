package bastion

import (
	"bytes"
	"sync"

	"sega/audit/recording"
)

// What a forward may carry that the recording has the bytes of, and nobody can read.
const (
	opaqueSSH = "ssh"
	opaqueTLS = "tls"
)

// watchMost is how much of each direction is looked at. Whoever wraps an SSH connection into something
// else, or begins it later, is not found: the log says where a forward went, and no more.
const watchMost = 8 << 10

// watch looks at the first bytes of a forwarded connection, whichever side speaks first.
type watch struct {
	mu      sync.Mutex
	in, out head
	what    string
}

// head is the beginning of one direction.
type head struct {
	data   []byte
	banner bool // "SSH-2.0-" stands somewhere in it
	done   bool
}

// saw takes in what goes one way. It returns what the connection is known to carry so far, and whether
// that was found just now.
func (w *watch) saw(stream recording.Stream, data []byte) (what string, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := &w.out
	if stream == recording.StreamIn {
		h = &w.in
	}
	found := h.look(data)
	if found == "" && w.in.banner && w.out.banner { // behind the handshake of a proxy
		found = opaqueSSH
	}
	first = found != "" && found != w.what && w.what != opaqueSSH
	if first {
		w.what = found
	}
	return w.what, first
}

func (w *watch) found() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.what
}

// look adds data to the head. An SSH connection begins with a line "SSH-2.0-…" from each side, before
// which a server may send other lines (RFC 4253 section 4.2); TLS with a handshake record.
func (h *head) look(data []byte) string {
	if h.done {
		return ""
	}
	from := max(0, len(h.data)-len("\nSSH-1.99-"))
	h.data = append(h.data, data[:min(len(data), watchMost-len(h.data))]...)
	tail := h.data[from:]
	found := ""
	switch {
	case bytes.HasPrefix(h.data, []byte("SSH-1.")), bytes.HasPrefix(h.data, []byte("SSH-2.")),
		bytes.Contains(tail, []byte("\nSSH-1.")), bytes.Contains(tail, []byte("\nSSH-2.")):
		found = opaqueSSH
	case len(h.data) >= 2 && h.data[0] == 0x16 && h.data[1] == 3 && from == 0:
		found = opaqueTLS
	}
	h.banner = h.banner || bytes.Contains(tail, []byte("SSH-2.0-")) || bytes.Contains(tail, []byte("SSH-1.99-"))
	if len(h.data) >= watchMost {
		h.data, h.done = nil, true
	}
	return found
}
