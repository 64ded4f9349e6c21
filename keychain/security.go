//go:build !windows

package keychain

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"sega/keychain/secret"
)

// appleKeychain keeps keys as generic passwords in macOS's login keychain, by way of security(1): the
// system's own interface is reached by cgo alone. Whoever runs as this person while the keychain is
// unlocked can do the same; a copy of the disk cannot.
type appleKeychain struct{ program program }

const keychainService = "sega"

// newAppleKeychain gives a person at the screen personTime, because macOS may ask and does not say so.
// Over SSH it refuses instead of asking.
func newAppleKeychain() keyStore {
	p := program{name: "/usr/bin/security", patience: personTime}
	if os.Getenv("SSH_CONNECTION") != "" {
		p.patience = answerTime
	}
	return appleKeychain{program: p}
}

func (k appleKeychain) quiet() keyStore {
	k.program.patience = answerTime
	return k
}

func (k appleKeychain) load(item string) (secret.Secret, error) {
	out, err := k.program.run(nil, "find-generic-password", "-s", keychainService, "-a", item, "-w")
	if err != nil {
		return secret.Secret{}, keychainError(err)
	}
	defer clear(out)
	return parseKey(string(out))
}

// save gives the command on stdin, because it holds the key. security exits with the status of the last
// command there.
func (k appleKeychain) save(item string, key secret.Secret) error {
	text := strings.TrimSuffix(formatKey(key), "\n") // what is not printable comes back as hex
	line, err := securityLine("add-generic-password", "-U", "-s", keychainService, "-a", item, "-l", "sega",
		"-D", "key of sega's secrets on this machine", "-w", text)
	if err != nil {
		return err
	}
	_, err = k.program.run(strings.NewReader(line), "-i")
	return keychainError(err)
}

// keychainError reads exit codes: the last eight bits of an OSStatus (SecBase.h).
func keychainError(err error) error {
	var exit exitError
	if !errors.As(err, &exit) {
		return err
	}
	switch exit.code {
	case 44: // errSecItemNotFound, -25300
		return errNoItem
	case 36, 29: // errSecInteractionNotAllowed, -25308; errSecInteractionRequired, -25315
		return errLocked
	case 51, 128: // errSecAuthFailed, -25293; errSecUserCanceled, -128
		return errDismissed
	case 50, 37: // errSecNoSuchKeychain, -25294; errSecNoDefaultKeychain, -25307
		return errors.New("there is no login keychain")
	}
	return err
}

// Limits of what security reads (SecurityTool/macOS/security.c).
const (
	securityLineLen = 4096 // bytes of a line with what ends it; a longer one is two commands
	securityArgs    = 32
)

// securityLine writes a command in security's own language: a line of arguments, in which a backslash
// takes the next byte as it is, between quotes of either kind as well. It is not the shell's.
func securityLine(args ...string) (string, error) {
	if len(args) == 0 || len(args) > securityArgs {
		return "", fmt.Errorf("a command of %d arguments cannot be given to security", len(args))
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	quoted := make([]string, len(args))
	for i, arg := range args {
		if strings.ContainsAny(arg, "\n\x00") {
			return "", errors.New("an argument with a line feed or a zero byte cannot be given to security")
		}
		quoted[i] = `"` + escape.Replace(arg) + `"`
	}
	line := strings.Join(quoted, " ") + "\n"
	if len(line) >= securityLineLen {
		return "", errors.New("the command is too long for security")
	}
	return line, nil
}
