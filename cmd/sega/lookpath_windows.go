package main

import (
	"errors"
	"os/exec"
)

// lookPath finds a command as Windows does, by PATH and PATHEXT of this process.
func lookPath(name string, _ []string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		var e *exec.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		return "", startError{name, err}
	}
	return path, nil
}
