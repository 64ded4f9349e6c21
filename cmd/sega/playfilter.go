package main

import (
	"bytes"
	"io"
)

// harmless passes what a terminal shows and drops what would make the reviewer's terminal act:
// operating system commands (clipboard, title, links), device control, and every query, whose
// answer the terminal would type into the reviewer's shell. Source: ECMA-48 §5.3 to §5.6 and
// xterm's control sequences.
type harmless struct {
	w     io.Writer
	state func(*harmless, byte)
	held  []byte // a sequence that is not yet whole
	more  int    // bytes that a character still wants
	out   bytes.Buffer
}

// heldLimit bounds a sequence; a longer one is dropped.
const heldLimit = 256

func newHarmless(w io.Writer) *harmless { return &harmless{w: w, state: (*harmless).ground} }

// Write implements io.Writer. Sequences may be cut anywhere between two calls.
func (h *harmless) Write(p []byte) (int, error) {
	h.out.Reset()
	for _, b := range p {
		h.state(h, b)
	}
	if _, err := h.w.Write(h.out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (h *harmless) ground(b byte) {
	switch b {
	case 0x1b:
		h.held, h.state = append(h.held[:0], b), (*harmless).escaped
	case 0x05: // ENQ: the terminal answers
	default:
		switch more := following(b); {
		case more > 0: // held until it is whole, so that nothing that is dropped joins its halves
			h.held, h.more, h.state = append(h.held[:0], b), more, (*harmless).multibyte
		case b < 0x80 || b > 0xbf: // a byte that continues nothing is C1 to some terminals
			h.out.WriteByte(b)
		}
	}
}

// following is how many bytes a UTF-8 sequence has behind its first.
func following(b byte) int {
	switch {
	case b >= 0xc2 && b <= 0xdf:
		return 1
	case b >= 0xe0 && b <= 0xef:
		return 2
	case b >= 0xf0 && b <= 0xf4:
		return 3
	}
	return 0
}

// multibyte drops U+0080 to U+009F, which some terminals take for ESC and a letter, and what is cut.
func (h *harmless) multibyte(b byte) {
	if b < 0x80 || b > 0xbf {
		h.state = (*harmless).ground
		h.ground(b)
		return
	}
	h.held = append(h.held, b)
	if h.more--; h.more > 0 {
		return
	}
	h.state = (*harmless).ground
	if h.held[0] != 0xc2 || h.held[1] > 0x9f {
		h.out.Write(h.held)
	}
}

func (h *harmless) escaped(b byte) {
	switch {
	case b == '[':
		h.held, h.state = append(h.held, b), (*harmless).csi
	case b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_':
		h.state = (*harmless).str
	case b == 'Z': // DECID: a query
		h.state = (*harmless).ground
	case b == 0x1b: // begins anew
		h.held = h.held[:1]
	case b == 0x18 || b == 0x1a: // CAN, SUB: given up
		h.state = (*harmless).ground
	case b >= 0x20 && b <= 0x2f: // intermediate: one more to come
		if h.held = append(h.held, b); len(h.held) > heldLimit {
			h.state = (*harmless).ground
		}
	case b >= 0x30 && b <= 0x7e:
		h.out.Write(append(h.held, b))
		h.state = (*harmless).ground
	default:
		h.inside(b, (*harmless).escaped)
	}
}

// inside takes a byte that is none of the sequence: a control is carried out at once and the
// sequence goes on; anything else ends it.
func (h *harmless) inside(b byte, goOn func(*harmless, byte)) {
	if b < 0x20 {
		h.ground(b)
		h.state = goOn
		return
	}
	h.state = (*harmless).ground
	h.ground(b)
}

func (h *harmless) csi(b byte) {
	switch {
	case b == 0x1b:
		h.held, h.state = append(h.held[:0], b), (*harmless).escaped
	case b >= 0x40 && b <= 0x7e:
		h.state = (*harmless).ground
		if !asks(h.held[2:], b) {
			h.out.Write(append(h.held, b))
		}
	case b >= 0x20 && b <= 0x3f:
		if h.held = append(h.held, b); len(h.held) > heldLimit {
			h.state = (*harmless).ground
		}
	case b == 0x18 || b == 0x1a: // CAN, SUB: given up
		h.state = (*harmless).ground
	default:
		h.inside(b, (*harmless).csi)
	}
}

// asks reports sequences that a terminal answers, or that act on its window.
func asks(params []byte, final byte) bool {
	switch final {
	case 'c', 'n', 't', 'x': // DA, DSR, window operations, DECREQTPARM
		return true
	case 'p': // DECRQM; DECSTR (soft reset) is "!p" and stays
		return bytes.ContainsRune(params, '$')
	case 'q': // XTVERSION; DECSCUSR (cursor shape) is " q" and stays
		return bytes.HasPrefix(params, []byte(">"))
	case 'u': // kitty's keyboard query; restore cursor is without parameters
		return bytes.HasPrefix(params, []byte("?"))
	case 'w', 'y', '|': // rectangle checksums, DECRQLP and their kin
		return true
	}
	return false
}

// str drops a control string up to its end: ST, or BEL.
func (h *harmless) str(b byte) {
	switch b {
	case 0x07, 0x18, 0x1a:
		h.state = (*harmless).ground
	case 0x1b:
		h.state = func(h *harmless, b byte) {
			if h.state = (*harmless).ground; b != '\\' {
				h.held = append(h.held[:0], 0x1b)
				h.escaped(b)
			}
		}
	}
}
