package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"sega/keychain/secret"
)

// passphraseTime is what a person gets to type. Other processes wait about as long for the one that asks.
const passphraseTime = time.Minute

// passphrase asks on the terminal device, never on stdin or stdout.
func (a *app) passphrase(prompt string) (secret.Secret, error) {
	in, out, err := openTerminal()
	if err != nil {
		return secret.Secret{}, withHint(errors.New("nobody can be asked for it: there is no terminal"), "run in a terminal: sega agent unlock")
	}
	defer func() { _ = out.Close() }()
	fmt.Fprint(out, prompt)
	defer fmt.Fprintln(out)
	return readHidden(in, passphraseTime, func() { _ = in.Close() })
}

// readHidden reads a line that is not shown. Who interrupts it, or lets the time pass, gets a terminal that
// shows again what is typed.
//
// Where nobody types, the reading goes on: free is called when the terminal is needed no more.
func readHidden(tty *os.File, patience time.Duration, free func()) (secret.Secret, error) {
	state, err := term.GetState(int(tty.Fd()))
	if err != nil {
		free()
		return secret.Secret{}, err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(stop)
	type answer struct {
		line []byte
		err  error
	}
	got := make(chan answer, 1)
	go func() { // ends with the process where nobody types
		defer free()
		line, err := term.ReadPassword(int(tty.Fd()))
		got <- answer{line, err}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-got:
		defer clear(v.line)
		return secret.New(v.line), v.err
	case <-stop:
		return secret.Secret{}, errors.Join(errCancelled, term.Restore(int(tty.Fd()), state))
	case <-timer.C:
		return secret.Secret{}, errors.Join(errors.New("nobody has typed it"), term.Restore(int(tty.Fd()), state))
	}
}
