package api

import "time"

// Types of what may begin in an SSH session, as the protocol names them (RFC 4254; PROTOCOL of OpenSSH).
const (
	ChannelShell     = "shell"
	ChannelExec      = "exec"
	ChannelSubsystem = "subsystem"

	ChannelDirectTCP       = "direct-tcpip"                    // one connection of -L or -D
	ChannelDirectSocket    = "direct-streamlocal@openssh.com"  // the same to a Unix socket
	ChannelListenTCP       = "tcpip-forward"                   // -R: the host is to listen
	ChannelListenSocket    = "streamlocal-forward@openssh.com" // the same at a Unix socket
	ChannelForwardedTCP    = "forwarded-tcpip"                 // one connection that it took
	ChannelForwardedSocket = "forwarded-streamlocal@openssh.com"

	ChannelAgentRequest = "auth-agent-req@openssh.com" // the host is to reach the person's agent
	ChannelAgent        = "auth-agent@openssh.com"     // one connection to it
	ChannelX11Request   = "x11-req"                    // the host is to reach the person's display
	ChannelX11          = "x11"                        // one connection to it
)

// SubsystemSFTP is the command of the ChannelSubsystem that moves files.
const SubsystemSFTP = "sftp"

// ChannelRequest asks whether something may begin in a live session. Person, host and login come from
// the broker's record of the session. The decision is the event session.command or forward.open, which
// is durable before the answer. A repeat of an ID gets the first answer and is no second event.
//
// Where a forward goes to is what client or host have named: nothing of it was looked up.
type ChannelRequest struct {
	ID        string    `json:"id"` // UUIDv7 chosen by the bastion
	Time      time.Time `json:"time"`
	SessionID string    `json:"session_id"` // ssh_…
	Channel   uint32    `json:"channel"`    // its number in the recording; 0 of a listener
	Type      string    `json:"type"`       // ChannelShell …

	Command string `json:"command,omitempty"` // of ChannelExec; the name of ChannelSubsystem
	Raw     []byte `json:"raw,omitempty"`     // the command again, where it is not UTF-8
	Cut     bool   `json:"cut,omitempty"`     // only the beginning of the command is here

	Host   string `json:"host,omitempty"`   // of TCP: connected to or, of -R, listened at
	Port   uint32 `json:"port,omitempty"`   // 0 of ChannelListenTCP: any
	Socket string `json:"socket,omitempty"` // path of the Unix socket
}

// ChannelGrant is the answer. Where Allow is false, Reason and Hint are for the person.
type ChannelGrant struct {
	Allow  bool   `json:"allow"`
	Reason string `json:"reason,omitempty"`
	Hint   string `json:"hint,omitempty"`
	Event  string `json:"event"` // ID of the decision's event

	OmitContent bool `json:"omit_content,omitempty"` // of SubsystemSFTP: the recording is to leave out what files hold
	ReadOnly    bool `json:"read_only,omitempty"`    // of SubsystemSFTP: requests that change something are to be refused
	Opaque      bool `json:"opaque,omitempty"`       // of a forward: an SSH connection inside it, which no recording can read, may go on
}

// HopForwards says what policy may permit in a session: what it has not is refused without a question,
// and each use of what it has is asked for.
type HopForwards struct {
	Ports bool `json:"ports,omitempty"` // TCP ports and Unix sockets
	Agent bool `json:"agent,omitempty"`
	X11   bool `json:"x11,omitempty"`
}
