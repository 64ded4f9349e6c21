//go:build !windows

package keychain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"sega/keychain/secret"
)

// passStore keeps keys in pass(1), as entries sega/ITEM. gpg may ask a person, so each call gets
// personTime. It is taken by name only: a probe would write into somebody's password store.
type passStore struct{ patience time.Duration }

func (p passStore) load(item string) (secret.Secret, error) {
	out, err := p.run("", "show", "sega/"+item)
	if err != nil && strings.Contains(err.Error(), "is not in the password store") {
		return secret.Secret{}, errNoItem
	}
	if err != nil {
		return secret.Secret{}, err
	}
	defer clear(out)
	return parseKey(string(out))
}

func (p passStore) save(item string, key secret.Secret) error {
	_, err := p.run(formatKey(key), "insert", "--multiline", "--force", "sega/"+item)
	return err
}

// run gives the key on stdin, never in an argument. Only stderr enters an error.
func (p passStore) run(stdin string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), p.patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "pass", args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, errSilent
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("the program pass is not installed")
	case err != nil:
		return nil, fmt.Errorf("pass %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}
