package export

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"

	"sega/audit/recording"
)

// Harmless passes what a terminal shows: UTF-8, and the sequences that allow.go lists. All else
// is dropped, for it would make the reviewer's terminal act: set its clipboard, its title, its size
// or its keyboard, leave UTF-8, or answer by typing into the reviewer's shell. A list of what is
// dropped would never be whole. Source of the forms: ECMA-48 §5.3 to §5.6, xterm's ctlseqs.
type Harmless struct {
	w      io.Writer
	state  func(*Harmless, byte)
	held   []byte // a sequence or character that is not yet whole
	left   int    // bytes that a control string may still have
	titles bool   // ESC k begins a title, as screen and tmux know it
	out    bytes.Buffer
}

const (
	heldLimit   = 256     // bytes of a sequence; a longer one is dropped
	stringLimit = 4 << 10 // of a control string; what is behind them is shown
	titleLimit  = 256     // of a title of screen
)

// NewHarmless returns a filter before w.
func NewHarmless(w io.Writer) *Harmless { return &Harmless{w: w, state: (*Harmless).ground} }

// Note takes an event of the recording: what ESC k means depends on the terminal.
func (h *Harmless) Note(e recording.Event) {
	if e.Type == recording.EventPty {
		h.titles = strings.HasPrefix(e.Term, "screen") || strings.HasPrefix(e.Term, "tmux")
	}
}

// Write implements io.Writer. Sequences may be cut anywhere between two calls.
func (h *Harmless) Write(p []byte) (int, error) {
	h.out.Reset()
	for _, b := range p {
		h.state(h, b)
	}
	if _, err := h.w.Write(h.out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (h *Harmless) ground(b byte) {
	h.state = (*Harmless).ground
	switch {
	case b == 0x1b:
		h.held, h.state = append(h.held[:0], b), (*Harmless).escaped
	case b < 0x20:
		if b >= 0x07 && b <= 0x0f { // BEL, BS, HT, LF, VT, FF, CR, SO, SI
			h.out.WriteByte(b)
		}
	case b < 0x7f:
		h.out.WriteByte(b)
	case b >= 0x80:
		h.held = h.held[:0]
		h.multibyte(b)
	}
}

// multibyte passes a character of several bytes once it is whole, without U+0080 to U+009F, which
// some terminals take for ESC and a letter. What is none becomes U+FFFD.
func (h *Harmless) multibyte(b byte) {
	if len(h.held) > 0 && (b < 0x80 || b > 0xbf) { // cut
		h.out.WriteRune(utf8.RuneError)
		h.ground(b)
		return
	}
	h.state = (*Harmless).multibyte
	if h.held = append(h.held, b); !utf8.FullRune(h.held) {
		return
	}
	h.state = (*Harmless).ground
	switch r, n := utf8.DecodeRune(h.held); {
	case n == 1 && len(h.held) > 1: // the last byte continues none of it
		h.out.WriteRune(utf8.RuneError)
		h.ground(b)
	case r > 0x9f:
		h.out.WriteRune(r)
	}
}

func (h *Harmless) escaped(b byte) {
	switch {
	case b < 0x20 || b >= 0x7f:
		h.inside(b)
	case b <= 0x2f: // intermediate: one more to come
		h.hold(b)
	case len(h.held) > 1:
		h.escape(b)
	case b == '[':
		h.held, h.state = append(h.held, b), (*Harmless).csi
	case b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_':
		h.left, h.state = stringLimit, (*Harmless).str
	case b == 'k' && h.titles:
		h.left, h.state = titleLimit, (*Harmless).str
	default:
		h.escape(b)
	}
}

// escape ends a sequence that is not CSI.
func (h *Harmless) escape(final byte) {
	h.state = (*Harmless).ground
	if shownEscape(h.held[1:], final) {
		h.out.Write(append(h.held, final))
	}
}

func (h *Harmless) csi(b byte) {
	switch {
	case b < 0x20 || b >= 0x7f:
		h.inside(b)
	case b <= 0x3f:
		h.hold(b)
	default:
		h.state = (*Harmless).ground
		if len(h.held) < heldLimit {
			h.out.Write(shownCSI(h.held[2:], b))
		}
	}
}

// hold keeps a byte. Where they are too many, the last are lost, and at the end the sequence is.
func (h *Harmless) hold(b byte) {
	if len(h.held) < heldLimit {
		h.held = append(h.held, b)
	}
}

// inside takes a byte that is none of a sequence. A control is carried out at once, and the
// sequence goes on; CAN, SUB, ESC and what is beyond ASCII end it; DEL is nothing.
func (h *Harmless) inside(b byte) {
	goOn := h.state
	switch {
	case b == 0x7f:
	case b == 0x18 || b == 0x1a:
		h.state = (*Harmless).ground
	case b < 0x20 && b != 0x1b:
		h.ground(b)
		h.state = goOn
	default:
		h.ground(b)
	}
}

// str drops a control string up to its end: ST, BEL or CAN, or where it would hide too much, a line
// feed or its bound.
func (h *Harmless) str(b byte) {
	switch {
	case b == 0x1b:
		h.state = (*Harmless).strEnd
	case b == '\n':
		h.ground(b)
	case b == 0x07 || b == 0x18 || b == 0x1a:
		h.state = (*Harmless).ground
	case h.left == 0:
		h.ground(b)
	default:
		h.left--
	}
}

// strEnd is behind an ESC in a control string: it ends it, or begins a sequence.
func (h *Harmless) strEnd(b byte) {
	h.ground(0x1b)
	if h.escaped(b); b == '\\' {
		h.state = (*Harmless).ground
	}
}
