//go:build !windows

package keychain

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/term"

	"sega/keychain/secret"
)

// passStore keeps keys in pass(1), as entries sega/ITEM. It is taken by name only: a probe would
// write into somebody's password store.
type passStore struct{ program program }

// newPass gives pass personTime where gpg can ask a person for its passphrase, else answerTime.
func newPass() keyStore {
	p := program{name: "pass", patience: answerTime}
	if gpgAsks() {
		p.patience = personTime
	}
	return passStore{program: p}
}

// gpgAsks reports whether there is a place at which gpg's pinentry reaches a person: a terminal, or a screen
// that is not a remote one.
func gpgAsks() bool {
	screen := runtime.GOOS == "darwin" || os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
	return os.Getenv("GPG_TTY") != "" || terminal() != nil || screen && os.Getenv("SSH_CONNECTION") == ""
}

// terminal is stdin where it is one. pass takes its name for gpg's pinentry (GPG_TTY).
func terminal() io.Reader {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		return os.Stdin
	}
	return nil
}

// quiet lets gpg decrypt with what its agent remembers, and cancel where it would ask
// (gpg(1), --pinentry-mode; pass(1), PASSWORD_STORE_GPG_OPTS).
func (p passStore) quiet() keyStore {
	p.program.patience = answerTime
	p.program.env = "PASSWORD_STORE_GPG_OPTS=" + os.Getenv("PASSWORD_STORE_GPG_OPTS") + " --batch --pinentry-mode=cancel"
	return p
}

func (p passStore) load(item string) (secret.Secret, error) {
	out, err := p.program.run(terminal(), "show", "sega/"+item)
	var exit exitError
	if errors.As(err, &exit) && strings.Contains(exit.stderr, "is not in the password store") {
		return secret.Secret{}, errNoItem
	}
	if err != nil {
		return secret.Secret{}, err
	}
	defer clear(out)
	return parseKey(string(out))
}

func (p passStore) save(item string, key secret.Secret) error {
	_, err := p.program.run(strings.NewReader(formatKey(key)), "insert", "--multiline", "--force", "sega/"+item)
	return err
}
