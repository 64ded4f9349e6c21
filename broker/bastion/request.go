package bastion

import (
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
)

// Payloads of channel requests (RFC 4254 sections 6.2 to 6.10; "break" is RFC 4335).
type (
	ptyRequest struct {
		Term          string
		Cols, Rows    uint32
		Width, Height uint32 // pixels
		Modes         string
	}
	envRequest struct{ Name, Value string }
	ptyRest    struct {
		Width, Height uint32
		Modes         string
	}
	windowRequest struct{ Cols, Rows, Width, Height uint32 }
	pixels        struct{ Width, Height uint32 }
	nameRequest   struct{ Value string } // exec, subsystem, signal
	breakRequest  struct{ Millis uint32 }
	exitStatus    struct{ Status uint32 }
	exitSignal    struct {
		Signal  string
		Core    bool
		Message string
		Lang    string
	}
	noPayload  struct{}
	x11Request struct {
		Single   bool
		Protocol string
		Cookie   string
		Screen   uint32
	}
)

// Payloads of channels and global requests of forwards (RFC 4254 sections 6.3.2 and 7; PROTOCOL of
// OpenSSH section 2.4).
type (
	directTCPIP struct { // forwarded-tcpip as well
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	directSocket struct {
		Path     string
		Reserved string
		Zero     uint32
	}
	forwardedSocket struct {
		Path     string
		Reserved string
	}
	x11Open struct {
		OriginHost string
		OriginPort uint32
	}
	listenTCP struct {
		Host string
		Port uint32
	}
)

const maxPort = 65535

// request is a channel request that the bastion understands: what the recording says about it, and
// what goes on. Nothing goes on that the recording does not say: an event's Value holds, of pty and
// resize, the request's bytes after columns and rows; of BREAK its milliseconds; of exit-signal
// "core" where there is one.
type request struct {
	event    recording.Event
	payload  []byte
	recorded bool // false: passes without an event of its own
	start    bool // shell, exec, subsystem: the session's program
	pty      bool
}

// parseClientRequest reads a request of the client. ok is false for what the bastion does not
// forward: unknown types and malformed payloads. Agent and X11 forwarding are lend's.
func parseClientRequest(kind string, payload []byte) (request, bool) {
	switch kind {
	case "pty-req":
		var p ptyRequest
		ok := parsePayload(payload, &p)
		return request{recorded: true, pty: true, payload: payload,
			event: recording.Event{Type: recording.EventPty, Term: p.Term, Cols: p.Cols, Rows: p.Rows,
				Value: string(ssh.Marshal(ptyRest{p.Width, p.Height, p.Modes}))}}, ok
	case "window-change":
		var p windowRequest
		ok := parsePayload(payload, &p)
		e := recording.Event{Type: recording.EventResize, Cols: p.Cols, Rows: p.Rows}
		if p.Width != 0 || p.Height != 0 {
			e.Value = string(ssh.Marshal(pixels{p.Width, p.Height}))
		}
		return request{recorded: true, payload: payload, event: e}, ok
	case "env":
		var p envRequest
		ok := parsePayload(payload, &p)
		return request{recorded: true, payload: payload, event: recording.Event{Type: recording.EventEnv, Name: p.Name, Value: p.Value}}, ok
	case "break":
		var p breakRequest
		ok := parsePayload(payload, &p)
		return request{recorded: true, payload: payload,
			event: recording.Event{Type: recording.EventSignal, Signal: "BREAK", Value: strconv.FormatUint(uint64(p.Millis), 10)}}, ok
	case "signal":
		var p nameRequest
		ok := parsePayload(payload, &p)
		return request{recorded: true, payload: payload, event: recording.Event{Type: recording.EventSignal, Signal: p.Value}}, ok
	}
	return parseStart(kind, payload)
}

func parseStart(kind string, payload []byte) (request, bool) {
	var p nameRequest
	switch kind {
	case "shell":
		ok := parsePayload(payload, &noPayload{})
		return request{recorded: true, start: true, payload: payload, event: recording.Event{Type: recording.EventShell}}, ok
	case "exec":
		ok := parsePayload(payload, &p) && meansItself(p.Value)
		return request{recorded: true, start: true, payload: payload, event: recording.Event{Type: recording.EventExec, Command: p.Value}}, ok
	case "subsystem":
		ok := parsePayload(payload, &p) && meansItself(p.Value)
		return request{recorded: true, start: true, payload: payload, event: recording.Event{Type: recording.EventSubsystem, Name: p.Value}}, ok
	}
	return request{}, false
}

// parseTargetRequest reads a request of the host about a running session.
func parseTargetRequest(kind string, payload []byte) (request, bool) {
	switch kind {
	case "exit-status":
		var p exitStatus
		ok := parsePayload(payload, &p)
		return request{recorded: true, payload: payload, event: recording.Event{Type: recording.EventExit, Status: p.Status}}, ok
	case "exit-signal":
		var p exitSignal
		ok := parsePayload(payload, &p)
		e := recording.Event{Type: recording.EventExitSignal, Signal: p.Signal, Reason: p.Message}
		if p.Core {
			e.Value = "core"
		}
		p.Lang = ""
		return request{recorded: true, payload: ssh.Marshal(p), event: e}, ok
	case "eow@openssh.com":
		return request{payload: payload}, parsePayload(payload, &noPayload{})
	}
	return request{}, false
}

// parsePayload accepts exactly the fields of out and nothing after them.
func parsePayload(payload []byte, out any) bool {
	if _, empty := out.(*noPayload); empty {
		return len(payload) == 0
	}
	return ssh.Unmarshal(payload, out) == nil
}

// meansItself reports whether a host reads a string as the bastion and policy do. OpenSSH drops a zero byte at
// the end (sshbuf_get_cstring), so that "sftp\x00" is sftp to it, and "127.0.0.1\x00" an address.
func meansItself(s string) bool { return !strings.Contains(s, "\x00") }
