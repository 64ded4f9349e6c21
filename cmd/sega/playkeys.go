package main

import (
	"context"
	"os"
	"unicode/utf8"

	"github.com/muesli/cancelreader"
	"golang.org/x/term"
)

// key is a key that was pressed: a character, or one of those below.
type key rune

const (
	keyRight  key = -1 - iota
	keyLeft       // the arrows
	keyOther      // a key that means nothing here
	keyEnter  key = '\r'
	keyEscape key = 0x1b
	keyDelete key = 0x7f
	keyBreak  key = 0x03 // Ctrl-C
)

// parseKeys takes apart what a terminal sent in one read. An escape sequence is one key.
func parseKeys(b []byte) (keys []key) {
	for len(b) > 0 {
		k, n := parseKey(b)
		keys, b = append(keys, k), b[n:]
	}
	return keys
}

func parseKey(b []byte) (key, int) {
	if b[0] == 0x1b && len(b) > 1 {
		return parseSequence(b)
	}
	switch b[0] {
	case '\n':
		return keyEnter, 1
	case 0x08:
		return keyDelete, 1
	}
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError {
		return keyOther, n
	}
	return key(r), n
}

// parseSequence reads ESC [ … FINAL and ESC O FINAL; any other ESC is the key of that name.
func parseSequence(b []byte) (key, int) {
	if b[1] != '[' && b[1] != 'O' {
		return keyEscape, 1
	}
	for n := 2; n < len(b); n++ {
		if b[n] < 0x40 || b[n] > 0x7e {
			continue
		}
		switch {
		case n == 2 && b[n] == 'C':
			return keyRight, 3
		case n == 2 && b[n] == 'D':
			return keyLeft, 3
		}
		return keyOther, n + 1
	}
	return keyOther, len(b)
}

// keysAhead are keys that wait while the player is busy.
const keysAhead = 256

// keyboard reads keys from a terminal in raw mode until it is closed.
type keyboard struct {
	keys      chan key // of capacity keysAhead; closed when the terminal is gone
	interrupt func()   // called at once for Ctrl-C, whoever is busy with the keys before it
	file      *os.File
	in        cancelreader.CancelReader
	saved     *term.State
	stop      context.CancelFunc
	done      chan struct{}
}

// openKeyboard makes the terminal raw: no echo, no signals by keys, each key at once.
func openKeyboard(file *os.File, interrupt func()) (*keyboard, error) {
	in, err := cancelreader.NewReader(file)
	if err != nil {
		return nil, err
	}
	saved, err := term.MakeRaw(int(file.Fd()))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	k := &keyboard{keys: make(chan key, keysAhead), interrupt: interrupt, file: file, in: in, saved: saved, stop: stop, done: make(chan struct{})}
	go k.read(ctx)
	return k, nil
}

func (k *keyboard) read(ctx context.Context) {
	defer close(k.done)
	defer close(k.keys)
	buf := make([]byte, 256)
	for {
		n, err := k.in.Read(buf)
		for _, v := range parseKeys(buf[:n]) {
			if v == keyBreak {
				k.interrupt()
			}
			select {
			case k.keys <- v:
			case <-ctx.Done():
				return
			default: // nobody has taken that many: what is typed on is lost, but for Ctrl-C
			}
		}
		if err != nil {
			return
		}
	}
}

// close gives the terminal back as it was.
func (k *keyboard) close() {
	k.stop()
	if k.in.Cancel() {
		<-k.done
	}
	_ = k.in.Close()
	_ = term.Restore(int(k.file.Fd()), k.saved)
}
