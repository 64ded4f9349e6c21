//go:build unix

package main

import (
	"errors"
	"syscall"
)

// onDisk reports whether an error says that a disk is full, or to be read only.
func onDisk(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO)
}
