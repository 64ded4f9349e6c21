package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestAboutText: a row of the log says what was run, forwarded or got past, and not only where.
func TestAboutText(t *testing.T) {
	for name, c := range map[string]struct{ kind, details, want string }{
		"a command":        {"session.command", `{"type":"exec","command":"uptime"}`, "exec: uptime"},
		"a shell":          {"session.command", `{"type":"shell"}`, "shell"},
		"withheld":         {"session.command", `{"type":"exec","withheld":true}`, "exec: (withheld)"},
		"a long one":       {"session.command", `{"type":"exec","command":"` + strings.Repeat("ä", 200) + `"}`, "exec: " + strings.Repeat("ä", 98) + "…"},
		"to a port":        {"forward.open", `{"type":"direct-tcpip","host":"::1","port":22}`, "direct-tcpip [::1]:22"},
		"at any port":      {"forward.open", `{"type":"tcpip-forward","host":"","port":0}`, "tcpip-forward"},
		"to a socket":      {"forward.close", `{"type":"direct-streamlocal@openssh.com","socket":"/run/db"}`, "direct-streamlocal@openssh.com /run/db"},
		"refused for good": {"forward.open", `{"type":"x11-req"}`, "x11-req"},
		"past the bastion": {"host.bypass", `{"login":"root","method":"password"}`, "as root by password"},
		"left out":         {"host.bypass", `{"left_out":7}`, ""},
		"files":            {"sftp.rename", `{"path":"/a","to":"/b"}`, "/a → /b"},
		"no details":       {"session.command", ``, ""},
		"another kind":     {"user.login", `{"type":"x"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := aboutText(c.kind, json.RawMessage(c.details)); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
