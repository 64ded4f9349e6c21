package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sega/cmd/sega/awsconfig"
)

// sshIncludeMark stands above the line that sega keeps in ~/.ssh/config.
const sshIncludeMark = "# sega: first, since ssh takes the first value of an option (made by: sega configure --ssh)"

// configureSSH writes the block to a file of its own in ~/.ssh, and has ~/.ssh/config include it before
// anything else: ssh takes the first value that it reads, so nothing that stands there weakens the checks
// of host keys.
func (a *app) configureSSH(ctx context.Context, block string) error {
	home, err := os.UserHomeDir()
	if err != nil {
		return withKind(kindConfig, err)
	}
	dir := filepath.Join(home, ".ssh")
	file, config := filepath.Join(dir, "sega.conf"), filepath.Join(dir, "config")
	if strings.ContainsAny(file, "\"\r\n*?[%\\") || strings.Contains(file, "${") {
		return withKind(kindConfig, withHint(fmt.Errorf("an Include of ssh_config cannot name %q", file), "write the block yourself: sega configure --ssh --print"))
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return withKind(kindConfig, err)
	}
	written, err := awsconfig.Rewrite(ctx, file, func([]byte) ([]byte, error) { return []byte(block), nil })
	if err != nil {
		return withKind(kindConfig, err)
	}
	included, err := awsconfig.Rewrite(ctx, config, func(was []byte) ([]byte, error) { return includeFirst(was, file), nil })
	if errors.Is(err, awsconfig.ErrChanged) {
		return withHint(err, "run the same command again")
	}
	if err != nil {
		return withKind(kindConfig, err)
	}
	switch {
	case included:
		fmt.Fprintf(a.err, "%s includes %s before everything else\n", config, file)
	case written:
		fmt.Fprintf(a.err, "%s is written\n", file)
	default:
		fmt.Fprintf(a.err, "nothing has changed\n")
	}
	return nil
}

// includeFirst returns an ssh_config that includes file before it does anything else. Where it does
// already, it stays as it is, byte for byte.
func includeFirst(was []byte, file string) []byte {
	line := `Include "` + file + `"`
	var rest [][]byte
	first := true
	for l := range bytes.Lines(was) {
		text := strings.TrimSpace(string(l))
		switch {
		case text == line && first:
			return was
		case text == line || text == sshIncludeMark:
			continue // it stood too late
		case text != "" && !strings.HasPrefix(text, "#"):
			first = false
		}
		rest = append(rest, l)
	}
	out := []byte(sshIncludeMark + "\n" + line + "\n")
	return append(out, bytes.Join(rest, nil)...)
}
