package screen

import "unicode/utf8"

const (
	maxParams = 16
	maxParam  = 9999
	maxString = 4 << 10 // bytes of a control string
	maxTitle  = 256     // of a title of screen
)

// sink takes a stream apart: what is printed, control characters, and whole escape sequences.
// Strings for the terminal itself (titles, colours, ECMA-48 §5.6) never reach it.
type sink interface {
	print(r rune)
	control(b byte)
	sequence(s sequence)
}

// sequence is ESC … final, or with csi set ESC [ … final (ECMA-48 §5.3, §5.4).
type sequence struct {
	csi    bool
	prefix byte // one of < = > ? behind ESC [, or 0
	inter  byte // the last intermediate byte, or 0
	final  byte
	params []int // valid until the next byte; 0 where left out
}

// param returns a parameter, or def where it is absent or 0.
func (s sequence) param(i, def int) int {
	if i < len(s.params) && s.params[i] > 0 {
		return s.params[i]
	}
	return def
}

type parserState byte

const (
	inText parserState = iota
	inEscape
	inCSI
	inString    // until BEL, or ESC and a backslash; a line feed or its bound ends it, too
	inStringEnd // after the ESC
)

// parser reads a terminal's stream in pieces of any length. It keeps a few bytes at most.
//
// A control string is what a terminal shows nothing of. Where one never ends, all that follows would
// be missing, which whoever is recorded could wish for: it is bounded.
type parser struct {
	to      sink
	titles  bool // ESC k begins a title, as screen and tmux have it; other terminals show what follows
	room    int  // bytes that a string may still have
	state   parserState
	seq     sequence
	params  [maxParams]int
	count   int // of params begun
	partial []byte
}

func newParser(to sink) *parser { return &parser{to: to, partial: make([]byte, 0, utf8.UTFMax)} }

// write takes the next piece.
func (p *parser) write(data []byte) {
	for len(data) > 0 {
		b := data[0]
		if len(p.partial) == 0 && (b < utf8.RuneSelf || p.state != inText) {
			p.byte(b)
			data = data[1:]
			continue
		}
		data = p.character(data)
	}
}

// character reads one character of several bytes, or what there is of it, and returns the rest.
func (p *parser) character(data []byte) []byte {
	had := len(p.partial)
	p.partial = append(p.partial, data[:min(len(data), utf8.UTFMax-had)]...)
	if !utf8.FullRune(p.partial) {
		return nil
	}
	r, size := utf8.DecodeRune(p.partial)
	p.partial = p.partial[:0]
	if r >= 0x80 && r < 0xa0 { // C1: no terminal of today reads them in UTF-8
		return data[max(size-had, 0):]
	}
	p.to.print(r)
	if size < had { // the kept bytes were no character: the first is done with, the others are read again
		rest := append(append([]byte(nil), p.again(had, size)...), data...)
		return rest
	}
	return data[size-had:]
}

// again returns the kept bytes behind the first that were decoded.
func (p *parser) again(had, size int) []byte { return p.partial[:had][size:] }

// end gives out what was begun and not finished.
func (p *parser) end() {
	if len(p.partial) > 0 {
		p.to.print(utf8.RuneError)
		p.partial = p.partial[:0]
	}
}

func (p *parser) byte(b byte) {
	switch {
	case p.state == inString || p.state == inStringEnd:
		p.inString(b)
	case b == 0x1b:
		p.state, p.seq, p.count = inEscape, sequence{}, 0
	case b == 0x18 || b == 0x1a: // CAN, SUB
		p.state = inText
	case b < 0x20:
		p.to.control(b)
	case b == 0x7f:
	case p.state == inEscape:
		p.escape(b)
	case p.state == inCSI:
		p.csi(b)
	default:
		p.to.print(rune(b))
	}
}

func (p *parser) inString(b byte) {
	switch {
	case p.state == inStringEnd && b != '\\': // another sequence begins
		p.state, p.seq, p.count = inEscape, sequence{}, 0
		p.byte(b)
	case p.state == inStringEnd, b == 0x07, b == 0x18, b == 0x1a:
		p.state = inText
	case b == 0x1b:
		p.state = inStringEnd
	case b == '\n', p.room == 0:
		p.state = inText
		p.write([]byte{b})
	default:
		p.room--
	}
}

func (p *parser) escape(b byte) {
	switch {
	case b == '[' && p.seq.inter == 0:
		p.state, p.seq.csi = inCSI, true
	case p.seq.inter == 0 && (b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_'):
		p.state, p.room = inString, maxString
	case p.seq.inter == 0 && b == 'k' && p.titles:
		p.state, p.room = inString, maxTitle
	case b < 0x30:
		p.seq.inter = b
	default:
		p.finish(b)
	}
}

func (p *parser) csi(b byte) {
	switch {
	case b >= '0' && b <= '9':
		p.digit(int(b - '0'))
	case b == ';' || b == ':':
		p.count = min(max(p.count, 1)+1, maxParams+1)
		if p.count <= maxParams {
			p.params[p.count-1] = 0
		}
	case b >= '<' && b <= '?':
		p.seq.prefix = b
	case b < 0x30:
		p.seq.inter = b
	case b >= 0x40 && b < 0x7f:
		p.finish(b)
	default: // no byte of a sequence
		p.state = inText
	}
}

// digit adds to the last parameter; those beyond maxParams are dropped.
func (p *parser) digit(d int) {
	if p.count == 0 {
		p.count, p.params[0] = 1, 0
	}
	if p.count <= maxParams {
		v := &p.params[p.count-1]
		*v = min(*v*10+d, maxParam)
	}
}

func (p *parser) finish(b byte) {
	p.state, p.seq.final = inText, b
	p.seq.params = p.params[:min(p.count, maxParams)]
	p.to.sequence(p.seq)
}
