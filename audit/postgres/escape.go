package postgres

import "strings"

// Events may hold NUL, which PostgreSQL's texts cannot. It is written as \x01 and 0, and \x01 itself
// as \x01 and 1: character by character, so that prefixes and substrings stay such.
const (
	escapeByte = "\x01"
	escapedNUL = escapeByte + "0"
	escapedOne = escapeByte + "1"
)

var escaper = strings.NewReplacer("\x00", escapedNUL, escapeByte, escapedOne)

// escape returns a text in the form that is stored.
func escape(s string) string {
	for i := range len(s) {
		if s[i] <= 1 {
			return escaper.Replace(s)
		}
	}
	return s
}

// unescape reads a stored text; ok is false for one that escape never writes.
func unescape(s string) (text string, ok bool) {
	head, rest, found := strings.Cut(s, escapeByte)
	if !found {
		return s, !strings.Contains(s, "\x00")
	}
	if strings.Contains(s, "\x00") {
		return "", false
	}
	var b strings.Builder
	for found {
		b.WriteString(head)
		switch {
		case strings.HasPrefix(rest, "0"):
			b.WriteByte(0)
		case strings.HasPrefix(rest, "1"):
			b.WriteByte(1)
		default:
			return "", false
		}
		head, rest, found = strings.Cut(rest[1:], escapeByte)
	}
	b.WriteString(head)
	return b.String(), true
}
