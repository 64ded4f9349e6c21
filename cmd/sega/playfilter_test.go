package main

import (
	"bytes"
	"testing"
)

func filtered(chunks ...[]byte) string {
	var out bytes.Buffer
	h := newHarmless(&out)
	for _, c := range chunks {
		_, _ = h.Write(c)
	}
	return out.String()
}

func TestHarmless(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"text":                 {"héllo\r\nwörld\t€", "héllo\r\nwörld\t€"},
		"not UTF-8":            {"a\xffb\x9b6n\xc3", "a\xffb6n"},
		"halves of C1":         {"a\xc2\x1b[6n\x9bb", "ab"},
		"colours and cursor":   {"\x1b[1;31mred\x1b[0m\x1b[2J\x1b[10;20H\x1b[?1049h\x1b[?25l\x1b7\x1b8\x1b(B\x1b=", "\x1b[1;31mred\x1b[0m\x1b[2J\x1b[10;20H\x1b[?1049h\x1b[?25l\x1b7\x1b8\x1b(B\x1b="},
		"cursor shape, reset":  {"\x1b[2 q\x1b[!p", "\x1b[2 q\x1b[!p"},
		"clipboard":            {"a\x1b]52;c;cm0gLXJmIC8K\x07b", "ab"},
		"title by ST":          {"a\x1b]0;x\x1b\\b", "ab"},
		"title then sequence":  {"a\x1b]0;x\x1b[1mb", "a\x1b[1mb"},
		"device control":       {"a\x1bP+q544e\x1b\\b", "ab"},
		"application command":  {"a\x1b_Gi=1\x1b\\b\x1b^x\x1b\\c\x1bXy\x1b\\d", "abcd"},
		"queries":              {"a\x1b[c\x1b[>c\x1b[=c\x1b[6n\x1b[?6n\x1b[18t\x1b[21t\x1b[>q\x1b[?u\x1b[?2026$p\x1bZ\x05b", "ab"},
		"C1 in UTF-8":          {"a\u009b6n\u009d52;c;x\u009cb", "a6n52;c;xb"},
		"other of that prefix": {"a\u00a9b", "a\u00a9b"},
		"control inside":       {"\x1b[1\r;31mx", "\r\x1b[1;31mx"},
		"cancelled":            {"a\x1b[12\x18b", "ab"},
		"escape twice":         {"\x1b\x1b[1m", "\x1b[1m"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := filtered([]byte(c.in)); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			var bytewise [][]byte
			for i := range len(c.in) {
				bytewise = append(bytewise, []byte{c.in[i]})
			}
			if got := filtered(bytewise...); got != c.want {
				t.Errorf("cut everywhere: %q, want %q", got, c.want)
			}
		})
	}
}

// FuzzHarmless: what comes out is harmless in itself, wherever the input was cut.
func FuzzHarmless(f *testing.F) {
	f.Add([]byte("a\x1b]52;c;x\x07\x1b[6n\x1b[1mb"), 3)
	f.Add([]byte("\x1b[1\x1b]0;\x1b\x1b[c"), 1)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		whole := filtered(in)
		if cut = min(max(cut, 0), len(in)); filtered(in[:cut], in[cut:]) != whole {
			t.Errorf("cut at %d: %q, whole %q", cut, filtered(in[:cut], in[cut:]), whole)
		}
		if again := filtered([]byte(whole)); again != whole {
			t.Errorf("%q passes, but %q is what it should be", whole, again)
		}
	})
}
