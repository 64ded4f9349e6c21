//go:build unix

package idp

import (
	"os/exec"
	"syscall"
)

// detach puts the browser into a process group of its own, so that Ctrl-C at the terminal ends the
// login and not the browser.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
