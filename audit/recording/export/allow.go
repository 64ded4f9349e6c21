package export

import (
	"bytes"
	"slices"
	"strings"
)

// What Harmless lets pass: what moves the cursor, writes, erases and colours, and no more. Nothing
// of it makes a terminal answer, and a player undoes all of it that stays (cmd/sega/player.go).

// shownEscape reports whether ESC, intermediate bytes and a final one are shown.
func shownEscape(inter []byte, final byte) bool {
	switch string(inter) {
	case "": // save, restore, index, next line, tab stop, reverse index, reset
		return strings.IndexByte("78DEHMc", final) >= 0
	case "(", ")": // character sets: ASCII, line drawing, British, and the VT100's own
		return strings.IndexByte("B0A12", final) >= 0
	case "#": // double height and width, and the alignment pattern
		return strings.IndexByte("34568", final) >= 0
	}
	return false
}

// Modes that change what is shown. Those of keyboard, mouse and pasting are the reviewer's own.
var (
	shownModes        = []string{"4", "20"}                                         // insert, line feed with carriage return
	shownPrivateModes = []string{"5", "6", "7", "25", "47", "1047", "1048", "1049"} // reverse video, origin, wrap, cursor, alternate screens
)

// shownCSI returns the sequence ESC [ body final, or what of it is shown, or nothing.
func shownCSI(body []byte, final byte) []byte {
	n := len(body) - len(bytes.TrimLeft(body, "<=>?"))
	prefix, rest := string(body[:n]), body[n:]
	params := bytes.TrimRight(rest, " !\"#$%&'()*+,-./")
	inter := string(rest[len(params):])
	if len(bytes.Trim(params, "0123456789;:")) > 0 {
		return nil
	}
	modes := final == 'h' || final == 'l'
	switch {
	case prefix == "" && inter == "" && modes:
		return onlyModes("", string(params), shownModes, final)
	case prefix == "?" && inter == "" && modes:
		return onlyModes("?", string(params), shownPrivateModes, final)
	case !shownFinal(prefix+"P"+inter, string(params), final):
		return nil
	}
	return append(append([]byte("\x1b["), body...), final)
}

// shownFinal is the list of sequences by their form: prefix, P for parameters, intermediates.
func shownFinal(form, params string, final byte) bool {
	switch form {
	case "P":
		switch final {
		case 'T': // with more it follows the mouse
			return !strings.ContainsAny(params, ";:")
		case 's', 'u': // with parameters they are margins, and keys
			return params == ""
		}
		return strings.IndexByte("@ABCDEFGHIJKLMPSXZ`abdefgmr", final) >= 0
	case "?P": // selective erasing
		return final == 'J' || final == 'K'
	case "P ": // shape of the cursor
		return final == 'q'
	case "P!": // soft reset
		return final == 'p' && params == ""
	}
	return false
}

// onlyModes returns the sequence with those of its modes that are allowed.
func onlyModes(prefix, params string, allowed []string, final byte) []byte {
	modes := slices.DeleteFunc(strings.Split(params, ";"), func(m string) bool { return !slices.Contains(allowed, m) })
	if len(modes) == 0 {
		return nil
	}
	return []byte("\x1b[" + prefix + strings.Join(modes, ";") + string(final))
}
