package export

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"sega/audit/recording"
)

func filtered(chunks ...[]byte) string {
	var out bytes.Buffer
	h := NewHarmless(&out)
	for _, c := range chunks {
		_, _ = h.Write(c)
	}
	return out.String()
}

func TestHarmless(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"text":                 {"héllo\r\nwörld\t€", "héllo\r\nwörld\t€"},
		"not UTF-8":            {"a\xffb\x9b6n\xc0\x80\xed\xa0\x80c\xe2\x82\xc3", "a\ufffdb\ufffd6n\ufffd\ufffd\ufffd\ufffd\ufffdc\ufffd"},
		"halves of C1":         {"a\xc2\x1b[6n\x9bb", "a\ufffd\ufffdb"},
		"C1, too long":         {"a\xe0\x82\x9b6n", "a\ufffd\ufffd\ufffd6n"},
		"colours and cursor":   {"\x1b[1;38:5:31mred\x1b[0m\x1b[2J\x1b[10;20H\x1b[?1049h\x1b[?25l\x1b7\x1b8\x1b(B\x1b#8\x1b[s\x1b[u\x1b[2T", "\x1b[1;38:5:31mred\x1b[0m\x1b[2J\x1b[10;20H\x1b[?1049h\x1b[?25l\x1b7\x1b8\x1b(B\x1b#8\x1b[s\x1b[u\x1b[2T"},
		"out of UTF-8":         {"a\x1b%@\xc3\x9b6n\x1b%Gb\x1b%/Ic", "a\u00db6nbc"},
		"further queries":      {"a\x1b[?2;1;0S\x1b[?4m\x1b[?4g\x1b[1$u\x1b[#R\x1b[\"v\x1b[?1$p\x1b[1*y\x1b[0#|b", "ab"},
		"print, size, columns": {"a\x1b[5i\x1b[?40h\x1b[?3h\x1b[8;1;1tb", "ab"},
		"keyboard and mouse":   {"a\x1b[2h\x1b[?1h\x1b=\x1b[?1004h\x1b[?1000;1006h\x1b[?2004h\x1b[?2048h\x1b[>1u\x1b[>4;2m\x1b[1;2;3;4;5Tb", "ab"},
		"of modes, the shown":  {"\x1b[?12;25h\x1b[?1;1049;2004hb\x1b[4;2h", "\x1b[?25h\x1b[?1049hb\x1b[4h"},
		"title or text":        {"a\x1bkrm -rf\x1b\\b", "arm -rfb"},
		"endless string":       {"a\x1b]0;x\nb\x1bPq\r\nc", "a\nb\nc"},
		"too long a string":    {"\x1b]" + strings.Repeat("x", stringLimit) + "yz", "yz"},
		"too many parameters":  {"a\x1b[" + strings.Repeat("1;", heldLimit) + "mb", "ab"},
		"other controls":       {"a\x00\x11\x13\x18\x1a\x7fb\b\x0e\x0f\a", "ab\b\x0e\x0f\a"},
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

// TestHarmlessTitles: under screen and tmux, ESC k begins a title and not text, and hides no more than one.
func TestHarmlessTitles(t *testing.T) {
	for term, want := range map[string]string{"xterm-256color": "atitlebl", "screen": "ab", "tmux-256color": "ab"} {
		var out bytes.Buffer
		h := NewHarmless(&out)
		h.Note(recording.Event{Type: recording.EventPty, Term: term})
		_, _ = h.Write([]byte("a\x1bktitle\x1b\\b\x1bkl"))
		if out.String() != want {
			t.Errorf("%s: %q, want %q", term, out.String(), want)
		}
		_, _ = h.Write([]byte(strings.Repeat("l", titleLimit) + "shown"))
		if !strings.HasSuffix(out.String(), "hown") {
			t.Errorf("%s: %q hides what follows a title without an end", term, out.String())
		}
	}
}

// shownOnly is, written once more, all that may reach a terminal.
var shownOnly = regexp.MustCompile(`^(?:[\x07-\x0f]|[^\x00-\x1f\x7f-\x{9f}]|\x1b[78DEHMc]|\x1b[()][B0A12]|\x1b#[34568]` +
	`|\x1b\[(?:[0-9;:]*[@A-MPSXZ` + "`" + `abdefgmr]|[0-9]*T|[su]|\?[0-9;:]*[JK]|[0-9;:]* q|!p|(?:4|20)(?:;(?:4|20))*[hl]` +
	`|\?(?:5|6|7|25|47|104[789])(?:;(?:5|6|7|25|47|104[789]))*[hl]))*$`)

// FuzzHarmless: what comes out is UTF-8 with sequences that are listed, wherever the input was cut.
func FuzzHarmless(f *testing.F) {
	f.Add([]byte("a\x1b]52;c;x\x07\x1b[6n\x1b[1mb"), 3)
	f.Add([]byte("\x1b[1\x1b]0;\x1b\x1b[c"), 1)
	f.Add([]byte("\x1b%@\xc3\x9b6n\xe0\x82\x9b\x1bkx\x1b[?2;1;0S\x1b[1;2;3;4;5T\x1b[?12;25h\x1b(0q\x1b#8"), 2)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		whole := filtered(in)
		if !utf8.ValidString(whole) || !shownOnly.MatchString(whole) {
			t.Errorf("%q comes through", whole)
		}
		if cut = min(max(cut, 0), len(in)); filtered(in[:cut], in[cut:]) != whole {
			t.Errorf("cut at %d: %q, whole %q", cut, filtered(in[:cut], in[cut:]), whole)
		}
		if again := filtered([]byte(whole)); again != whole {
			t.Errorf("%q passes, but %q is what it should be", whole, again)
		}
	})
}
