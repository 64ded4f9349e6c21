//go:build linux

package host

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// runnable checks what sshd looks at for the first time at a login, which it then refuses: that nobody but root can
// exchange the program that it asks (safe_path in OpenSSH's misc.c), and that the account may run it.
func (e *Enrolment) runnable() error {
	if e.By != ByCommand && !e.PlainKeys {
		return nil
	}
	path, err := filepath.EvalSymlinks(e.Sega)
	if err != nil {
		return err
	}
	for {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if why := unfit(info.Mode(), info.Sys().(*syscall.Stat_t).Uid, e.User); why != "" {
			return fmt.Errorf("sshd would not run %s at a login: %s %s\nput it where root alone can write, and say where: --sega /usr/local/bin/sega", e.Sega, path, why)
		}
		if path == "/" {
			return nil
		}
		path = filepath.Dir(path)
	}
}

// unfit says what keeps sshd from running a program for an account: mode and owner are its, or of a folder above it.
func unfit(mode fs.FileMode, owner uint32, account string) string {
	switch {
	case owner != 0:
		return "is not root's"
	case mode.Perm()&0o022 != 0:
		return "can be written by others than root"
	case account == DefaultUser && mode.Perm()&0o001 == 0:
		return "is closed to " + account
	}
	return ""
}
