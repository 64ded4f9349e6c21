//go:build unix

package main

import (
	"errors"
	"os"

	"golang.org/x/term"
)

var errNoTerminal = errors.New("there is no terminal that shows a screen")

// openTerminal opens the terminal device for what fills a screen: both ends of it, wherever stdin and
// stdout go.
func openTerminal(getenv func(string) string) (in, out *os.File, err error) {
	if name := getenv("TERM"); name == "" || name == "dumb" {
		return nil, nil, errNoTerminal
	}
	if in, err = os.OpenFile("/dev/tty", os.O_RDONLY, 0); err != nil {
		return nil, nil, err
	}
	if out, err = os.OpenFile("/dev/tty", os.O_WRONLY, 0); err == nil && !term.IsTerminal(int(out.Fd())) {
		err = errors.Join(errNoTerminal, out.Close())
	}
	if err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	return in, out, nil
}
