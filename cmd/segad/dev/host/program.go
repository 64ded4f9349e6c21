//go:build unix

package host

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

const (
	settle    = 500 * time.Millisecond // for a program to take its last input and end by itself
	killAfter = 2 * time.Second        // after SIGHUP
)

// program is a running program, leader of a session and process group of its own.
type program struct {
	cmd    *exec.Cmd
	ch     ssh.Channel
	master *os.File // nil without a terminal
	input  *os.File
	output map[*os.File]io.Writer

	release    func() // closes our ends, once
	foreground int    // process group in front of the terminal as release found it
	outputs    sync.WaitGroup
	inputDone  chan struct{}
	done       chan struct{} // the program has been waited for and the channel closed

	mu     sync.Mutex
	reaped bool // its process ID may belong to somebody else
}

// startProgram starts cmd on a terminal where one was asked for, else on three pipes. The caller
// must call pump, and hangUp when the channel has been closed.
func startProgram(cmd *exec.Cmd, ch ssh.Channel, term *ptyRequest) (*program, error) {
	p := &program{cmd: cmd, ch: ch, output: map[*os.File]io.Writer{}, inputDone: make(chan struct{}), done: make(chan struct{})}
	p.release = sync.OnceFunc(p.closeOurs)
	attach := p.attachPipes
	if term != nil {
		attach = func() ([]*os.File, error) { return p.attachPTY(term) }
	}
	theirs, err := attach()
	if err == nil {
		err = cmd.Start()
	}
	closeAll(theirs)
	if err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// attachPipes keeps stdout and stderr apart. It returns the program's ends.
func (p *program) attachPipes() (theirs []*os.File, err error) {
	var ends [3][2]*os.File
	for i := range ends {
		if ends[i][0], ends[i][1], err = os.Pipe(); err != nil {
			for _, e := range ends[:i] {
				closeAll(e[:])
			}
			return nil, err
		}
	}
	p.input = ends[0][1]
	p.output[ends[1][0]], p.output[ends[2][0]] = p.ch, p.ch.Stderr()
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = ends[0][0], ends[1][1], ends[2][1]
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return []*os.File{ends[0][0], ends[1][1], ends[2][1]}, nil
}

// attachPTY makes a terminal the controlling one of the program. It returns the program's end.
func (p *program) attachPTY(term *ptyRequest) (theirs []*os.File, err error) {
	blocking, tty, err := pty.Open()
	if err != nil {
		return nil, err
	}
	master, err := pollable(blocking)
	if err != nil {
		return []*os.File{tty}, err
	}
	p.master, p.input = master, master
	p.output[master] = p.ch
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, tty, tty
	p.cmd.Env = append(p.cmd.Env, "SSH_TTY="+tty.Name())
	if term.Term != "" {
		p.cmd.Env = append(p.cmd.Env, "TERM="+term.Term)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // Ctty 0: the program's stdin
	return []*os.File{tty}, p.resize(windowRequest{Cols: term.Cols, Rows: term.Rows, Width: term.Width, Height: term.Height}.size())
}

// pollable returns f anew as a file whose Close frees who reads it, and closes f. The library leaves
// its terminals in blocking mode, in which a reader keeps the terminal open: its programs would never
// get their SIGHUP.
func pollable(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// pump moves bytes until the program has ended and says how it ended. It returns at once; done is
// closed in the end.
func (p *program) pump() {
	for from, to := range p.output {
		p.outputs.Go(func() {
			_, _ = io.Copy(to, from) // a terminal ends in EIO, a closed channel in EOF
			if p.master == nil {
				_ = from.Close() // a program that goes on writing shall notice
			}
		})
	}
	go p.feed()
	go p.wait()
}

// feed ends when the client sends no more input or the program takes none. The end of input closes
// a pipe and leaves a terminal open, as in sshd. Its owner is hangUp, which waits for inputDone.
func (p *program) feed() {
	defer close(p.inputDone)
	_, _ = io.Copy(p.input, p.ch)
	if p.master == nil {
		_ = p.input.Close()
	}
}

// wait keeps the order of sshd: output, its end, the program's end, the channel's. Until the output
// has ended the program is not reaped, so that its process group keeps its number. Its owner is
// hangUp, which waits for done.
func (p *program) wait() {
	defer close(p.done)
	p.outputs.Wait()
	_ = p.ch.CloseWrite()
	_ = p.cmd.Wait() // how it ended is in ProcessState
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	p.release()
	p.sweep()
	name, payload := exitReport(p.cmd.ProcessState)
	_, _ = p.ch.SendRequest(name, false, payload)
	_ = p.ch.Close()
}

// hangUp ends the program, whose channel has been closed, and waits for it. Input that came before
// the close still reaches it.
func (p *program) hangUp() {
	within(p.inputDone, settle)
	p.release() // a terminal that goes away sends SIGHUP itself
	if p.master != nil || !within(p.done, settle) {
		p.signal(syscall.SIGHUP)
	}
	if !within(p.done, killAfter) {
		p.signal(syscall.SIGKILL)
	}
	<-p.done
	<-p.inputDone
}

// within reports whether c was closed in time.
func within(c <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// closeOurs closes our ends of pipes or terminal, which unblocks whoever reads or writes there.
func (p *program) closeOurs() {
	if p.master != nil {
		p.foreground = foregroundOf(p.master)
	}
	for f := range p.output {
		_ = f.Close()
	}
	if p.input != nil {
		_ = p.input.Close()
	}
}

// foregroundOf returns the process group in front of a terminal, or 0.
func foregroundOf(master *os.File) int {
	group := 0
	err := control(master, func(fd int) (err error) {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	if err != nil {
		return 0
	}
	return group
}

// control calls f with the file's descriptor, which os.File.Fd would put into blocking mode.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}

// sweep kills what is left of the program's group, and of the one in front of its terminal where
// that still belongs to the program's session.
func (p *program) sweep() {
	pid := p.cmd.Process.Pid
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	if p.foreground <= 1 || p.foreground == pid {
		return
	}
	if session, err := unix.Getsid(p.foreground); err == nil && session == pid {
		_ = syscall.Kill(-p.foreground, syscall.SIGKILL)
	}
}

// signal signals the program's process group and reports whether it could.
func (p *program) signal(sig syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.reaped && syscall.Kill(-p.cmd.Process.Pid, sig) == nil
}

func (p *program) resize(size *unix.Winsize) error {
	if p.master == nil {
		return errors.New("no terminal")
	}
	return control(p.master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
}
