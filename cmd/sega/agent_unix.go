//go:build unix

package main

import "syscall"

// ownSession keeps what the terminal signals from a process that is to outlive it.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
