//go:build linux

package chaos

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// stopTime is how long a server may take to end by itself.
const stopTime = 25 * time.Second

// server is a process of segad that the test starts, harms and stops.
type server struct {
	t    testing.TB
	argv []string
	log  string // takes what it writes; starts anew keep it

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

func (s *server) start(more ...string) {
	s.t.Helper()
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	c := exec.Command(s.argv[0], append(s.argv[1:len(s.argv):len(s.argv)], more...)...)
	c.Stdout, c.Stderr = out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	s.cmd, s.done = c, done
	go func() { _ = c.Wait(); close(done) }() // ends with the process
}

func (s *server) running() bool {
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("%s: %v", sig, err)
	}
}

// kill ends the process as a loss of power would, and waits until it is gone.
func (s *server) kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	<-s.done
}

// stop ends it by SIGTERM and returns its exit code; -1 where it had to be killed.
func (s *server) stop() int {
	s.t.Helper()
	if !s.running() {
		return s.cmd.ProcessState.ExitCode()
	}
	s.signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(stopTime):
		s.t.Errorf("%v does not stop", s.argv)
		s.kill()
	}
	return s.cmd.ProcessState.ExitCode()
}

// tail is the end of its log.
func (s *server) tail(n int) string {
	data, _ := os.ReadFile(s.log)
	return string(data[max(0, len(data)-n):])
}
