package export

import "unicode/utf8"

// decoder turns the bytes of one stream into text: a character that is cut is held until it is
// whole, and each byte that belongs to none becomes U+FFFD, as if all had been decoded at once.
type decoder struct {
	held []byte
}

// add returns the text that is whole now.
func (d *decoder) add(p []byte) string {
	b := p
	if len(d.held) > 0 {
		b = append(d.held, p...)
	}
	whole := len(b) - cutTail(b)
	text := string([]rune(string(b[:whole])))
	d.held = append([]byte(nil), b[whole:]...)
	return text
}

// rest returns what was cut for good, at the stream's end.
func (d *decoder) rest() string {
	text := string([]rune(string(d.held)))
	d.held = nil
	return text
}

// cutTail returns how many bytes at the end of b begin a character that may still become whole.
func cutTail(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		tail := b[len(b)-n:]
		if utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
