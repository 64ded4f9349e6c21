package main

import (
	"errors"
	"syscall"
)

// Source: Windows, "System Error Codes".
const (
	errWriteProtect   = syscall.Errno(19)
	errHandleDiskFull = syscall.Errno(39)
	errDiskFull       = syscall.Errno(112)
)

// onDisk reports whether an error says that a disk is full, or to be read only.
func onDisk(err error) bool {
	return errors.Is(err, errDiskFull) || errors.Is(err, errHandleDiskFull) || errors.Is(err, errWriteProtect)
}
