package main

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxWhat bounds what a row shows of a command, in runes: whoever was recorded chose how long it is.
const maxWhat = 100

// aboutText says what an event was about beside its resource, on one line; "" where that says all.
func aboutText(kind string, raw json.RawMessage) string {
	switch {
	case onFiles(kind):
		return fileText(raw)
	case kind == "session.command":
		var d commandDetails
		if json.Unmarshal(raw, &d) != nil {
			return ""
		}
		if d.Withheld {
			return d.Type + ": (withheld)"
		}
		return d.Type + clipRunes(prefixed(": ", d.Command))
	case onForwards(kind):
		return forwardText(raw)
	case kind == "host.bypass":
		var d struct{ Login, Method string }
		if json.Unmarshal(raw, &d) != nil || d.Login == "" {
			return ""
		}
		return "as " + d.Login + prefixed(" by ", d.Method)
	}
	return ""
}

// onForwards reports whether a kind of event is of a forward.
func onForwards(kind string) bool { return strings.HasPrefix(kind, "forward.") }

func forwardText(raw json.RawMessage) string {
	var d struct {
		Type, Host, Socket string
		Port               uint32
	}
	if json.Unmarshal(raw, &d) != nil {
		return ""
	}
	where := d.Socket
	if where == "" && (d.Host != "" || d.Port != 0) {
		where = net.JoinHostPort(d.Host, strconv.FormatUint(uint64(d.Port), 10))
	}
	return d.Type + prefixed(" ", where)
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func clipRunes(s string) string {
	if utf8.RuneCountInString(s) <= maxWhat {
		return s
	}
	return string([]rune(s)[:maxWhat]) + "…"
}
