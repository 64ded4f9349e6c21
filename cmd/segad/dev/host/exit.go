//go:build unix

package host

import (
	"os"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// signalNames are the names of RFC 4254 section 6.10.
var signalNames = [...]struct {
	name string
	sig  syscall.Signal
	take bool // sshd takes it in a "signal" request
}{
	{"ABRT", syscall.SIGABRT, false}, {"ALRM", syscall.SIGALRM, false}, {"FPE", syscall.SIGFPE, false},
	{"HUP", syscall.SIGHUP, true}, {"ILL", syscall.SIGILL, false}, {"INT", syscall.SIGINT, true},
	{"KILL", syscall.SIGKILL, true}, {"PIPE", syscall.SIGPIPE, false}, {"QUIT", syscall.SIGQUIT, true},
	{"SEGV", syscall.SIGSEGV, false}, {"TERM", syscall.SIGTERM, true}, {"USR1", syscall.SIGUSR1, true},
	{"USR2", syscall.SIGUSR2, true},
}

// otherSignal is what sshd calls signals that the RFC does not name.
const otherSignal = "SIG@openssh.com"

func deliverable(name string) (syscall.Signal, bool) {
	for _, s := range signalNames {
		if s.name == name {
			return s.sig, s.take
		}
	}
	return 0, false
}

func signalName(sig syscall.Signal) string {
	for _, s := range signalNames {
		if s.sig == sig {
			return s.name
		}
	}
	return otherSignal
}

type (
	exitStatus struct{ Status uint32 }
	exitSignal struct {
		Signal  string
		Core    bool
		Message string
		Lang    string
	}
)

// exitReport returns the request that tells a client how a program ended.
func exitReport(state *os.ProcessState) (name string, payload []byte) {
	status, ok := state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return "exit-signal", ssh.Marshal(exitSignal{Signal: signalName(status.Signal()), Core: status.CoreDump()})
	}
	return "exit-status", ssh.Marshal(exitStatus{uint32(state.ExitCode())})
}
