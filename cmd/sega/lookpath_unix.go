//go:build unix

package main

import (
	"errors"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultPath is where execvp of the C libraries looks without a PATH.
const defaultPath = "/bin:/usr/bin"

// lookPath finds a command as execvp does, with PATH of env: an empty entry is the current folder, what
// may not be run is passed over for what may. (exec.LookPath refuses the current folder, and looks
// nowhere without a PATH.)
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, runnable(name, name)
	}
	if name == "" {
		return "", startError{`""`, exec.ErrNotFound}
	}
	var barred error
	for dir := range strings.SplitSeq(searchPath(env), ":") {
		path := name
		if dir != "" {
			path = dir + "/" + name
		}
		err := runnable(name, path)
		if err == nil {
			return path, nil
		}
		if errors.Is(err, unix.EACCES) {
			barred = err
		}
	}
	if barred != nil {
		return "", barred
	}
	return "", startError{name, exec.ErrNotFound}
}

// searchPath is the first PATH, as the C library has it.
func searchPath(env []string) string {
	for _, kv := range env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			return path
		}
	}
	return defaultPath
}

// runnable is what execve would say before it reads the file.
func runnable(name, path string) error {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EACCES
	}
	if err == nil {
		err = unix.Access(path, unix.X_OK)
	}
	if err != nil {
		return startError{name, err}
	}
	return nil
}
