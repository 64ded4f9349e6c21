//go:build unix

package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

const maxEnv = 64 // variables that a client may set in one session

// Payloads of channel requests (RFC 4254 sections 6.2 to 6.10).
type (
	ptyRequest struct {
		Term          string
		Cols, Rows    uint32
		Width, Height uint32 // pixels
		Modes         string
	}
	windowRequest struct{ Cols, Rows, Width, Height uint32 }
	envRequest    struct{ Name, Value string }
	nameRequest   struct{ Value string } // exec, subsystem, signal
)

// session is one session channel. Its fields belong to the goroutine of run.
type session struct {
	srv    *Server
	conn   *ssh.ServerConn
	ch     ssh.Channel
	mayPTY bool
	env    []string
	pty    *ptyRequest
	prog   *program
}

func (s *Server) session(conn *ssh.ServerConn, cert *ssh.Certificate, nc ssh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	_, mayPTY := cert.Extensions[extPTY]
	(&session{srv: s, conn: conn, ch: ch, mayPTY: mayPTY}).run(reqs)
}

// run serves requests until the channel is closed, and then ends the program.
func (s *session) run(reqs <-chan *ssh.Request) {
	for r := range reqs {
		running := s.prog != nil
		ok := s.request(r)
		_ = r.Reply(ok, nil)
		if !running && s.prog != nil {
			s.prog.pump() // only now: nothing of the program comes before the answer
		}
	}
	if s.prog != nil {
		s.prog.hangUp()
	}
	_ = s.ch.Close()
}

// request carries out one request and reports whether it was granted.
func (s *session) request(r *ssh.Request) bool {
	switch r.Type {
	case "env":
		return s.setEnv(r.Payload)
	case "pty-req":
		return s.askPTY(r.Payload)
	case "window-change":
		return s.resize(r.Payload)
	case "signal":
		return s.signal(r.Payload)
	case "shell", "exec", "subsystem":
		return s.prog == nil && s.start(r)
	}
	return false // x11-req, auth-agent-req@openssh.com, break and whatever else there is
}

// setEnv takes what Debian's sshd takes: AcceptEnv LANG LC_*.
func (s *session) setEnv(payload []byte) bool {
	var e envRequest
	if ssh.Unmarshal(payload, &e) != nil || s.prog != nil || len(s.env) == maxEnv {
		return false
	}
	if e.Name != "LANG" && !strings.HasPrefix(e.Name, "LC_") || strings.ContainsAny(e.Name, "=\x00") || strings.Contains(e.Value, "\x00") {
		return false
	}
	s.env = append(s.env, e.Name+"="+e.Value)
	return true
}

func (s *session) askPTY(payload []byte) bool {
	var p ptyRequest
	if !s.mayPTY || s.pty != nil || s.prog != nil || ssh.Unmarshal(payload, &p) != nil || strings.Contains(p.Term, "\x00") {
		return false
	}
	s.pty = &p
	return true
}

func (s *session) resize(payload []byte) bool {
	var w windowRequest
	if s.pty == nil || ssh.Unmarshal(payload, &w) != nil {
		return false
	}
	if s.prog != nil {
		return s.prog.resize(w.size()) == nil
	}
	s.pty.Cols, s.pty.Rows, s.pty.Width, s.pty.Height = w.Cols, w.Rows, w.Width, w.Height
	return true
}

func (w windowRequest) size() *unix.Winsize {
	short := func(n uint32) uint16 { return uint16(min(n, 1<<16-1)) }
	return &unix.Winsize{Col: short(w.Cols), Row: short(w.Rows), Xpixel: short(w.Width), Ypixel: short(w.Height)}
}

func (s *session) signal(payload []byte) bool {
	var n nameRequest
	if s.prog == nil || ssh.Unmarshal(payload, &n) != nil {
		return false
	}
	sig, ok := deliverable(n.Value)
	return ok && s.prog.signal(sig)
}

// start starts the session's one program.
func (s *session) start(r *ssh.Request) bool {
	cmd, err := s.command(r)
	if err != nil {
		s.srv.cfg.Log.Info("program refused", "request", r.Type, "error", err)
		return false
	}
	cmd.Dir = s.srv.account.directory()
	cmd.Env = slices.Concat(s.srv.account.environment(s.conn.LocalAddr(), s.conn.RemoteAddr()), s.env)
	prog, err := startProgram(cmd, s.ch, s.pty)
	if err != nil {
		s.srv.cfg.Log.Error("program not started", "request", r.Type, "error", err)
		return false
	}
	s.prog = prog
	return true
}

// command returns what sshd would run: a login shell, the shell with -c, or the sftp server.
func (s *session) command(r *ssh.Request) (*exec.Cmd, error) {
	shell := s.srv.account.shell
	cmd := &exec.Cmd{Path: shell, Args: []string{"-" + filepath.Base(shell)}}
	if r.Type == "shell" {
		if len(r.Payload) != 0 {
			return nil, fmt.Errorf("malformed request")
		}
		return cmd, nil
	}
	var n nameRequest
	if err := ssh.Unmarshal(r.Payload, &n); err != nil {
		return nil, err
	}
	if r.Type == "exec" {
		cmd.Args = []string{filepath.Base(shell), "-c", n.Value}
		return cmd, nil
	}
	if n.Value != "sftp" {
		return nil, fmt.Errorf("no subsystem %q", n.Value)
	}
	return sftpServer()
}

// sftpServer looks where the systems put OpenSSH's sftp server.
func sftpServer() (*exec.Cmd, error) {
	for _, path := range []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/sftp-server"} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return &exec.Cmd{Path: path, Args: []string{path}}, nil
		}
	}
	return nil, fmt.Errorf("no sftp-server is installed")
}
