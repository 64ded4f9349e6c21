//go:build !(linux && (amd64 || arm64))

package inherited

import (
	"os"
	"os/signal"
	"syscall"
)

// Withheld reports whether a signal was ignored when sega started, as far as Go knows: SIGHUP and SIGINT.
func Withheld(s syscall.Signal) bool { return signal.Ignored(s) }

// Environ is the environment as Go has it.
func Environ() []string { return os.Environ() }

// Restore has nothing to give back.
func Restore() error { return nil }
