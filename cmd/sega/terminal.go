package main

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/term"
)

var errNoTerminal = errors.New("there is no terminal that shows a screen")

// openScreen is openTerminal for what fills a screen.
func openScreen(getenv func(string) string) (in, out *os.File, err error) {
	if name := getenv("TERM"); runtime.GOOS != "windows" && (name == "" || name == "dumb") {
		return nil, nil, errNoTerminal
	}
	if in, out, err = openTerminal(); err != nil {
		return nil, nil, err
	}
	if !term.IsTerminal(int(out.Fd())) {
		return nil, nil, errors.Join(errNoTerminal, in.Close(), out.Close())
	}
	return in, out, nil
}
