//go:build unix && !solaris && !illumos && !aix

package keychain

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes an exclusive flock, or returns errHeld.
func tryLock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errHeld
		case errors.Is(err, syscall.EINTR):
		default:
			return err
		}
	}
}
