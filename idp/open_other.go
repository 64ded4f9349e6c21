//go:build !unix

package idp

import "os/exec"

// detach has nothing to do: the system's opener hands the address to a running browser.
func detach(*exec.Cmd) {}
