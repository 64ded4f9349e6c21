package main

import (
	"errors"
	"os"

	"golang.org/x/term"
)

var errNoTerminal = errors.New("there is no console that shows a screen")

// openTerminal opens the console for what fills a screen, wherever stdin and stdout go.
func openTerminal(func(string) string) (in, out *os.File, err error) {
	if in, err = os.OpenFile("CONIN$", os.O_RDWR, 0); err != nil {
		return nil, nil, err
	}
	if out, err = os.OpenFile("CONOUT$", os.O_RDWR, 0); err == nil && !term.IsTerminal(int(out.Fd())) {
		err = errors.Join(errNoTerminal, out.Close())
	}
	if err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	return in, out, nil
}
