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

// sshFiles are the file of the block, which is ours, and the person's own.
func sshFiles() (file, config string, err error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", "", withKind(kindConfig, err)
	}
	dir := filepath.Join(home, ".ssh")
	return filepath.Join(dir, "sega.conf"), filepath.Join(dir, "config"), nil
}

// configureSSH writes the block to a file of its own in ~/.ssh, and has ~/.ssh/config include it before
// anything else: ssh takes the first value that it reads, so nothing that stands there weakens the checks
// of host keys.
func (a *app) configureSSH(ctx context.Context, block string) error {
	file, config, err := sshFiles()
	if err != nil {
		return err
	}
	if strings.ContainsAny(file, "\"\r\n*?[%\\") || strings.Contains(file, "${") {
		return withKind(kindConfig, withHint(fmt.Errorf("an Include of ssh_config cannot name %q", file), "write the block yourself: sega configure --ssh --print"))
	}
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return withKind(kindConfig, err)
	}
	written, err := awsconfig.Rewrite(ctx, file, func([]byte) ([]byte, error) { return []byte(block), nil })
	if err != nil {
		return withKind(kindConfig, withHint(err, "write the block elsewhere yourself: sega configure --ssh --print"))
	}
	included, err := awsconfig.Rewrite(ctx, config, func(was []byte) ([]byte, error) { return includeFirst(was, file), nil })
	if errors.Is(err, awsconfig.ErrChanged) {
		return withHint(err, "run the same command again")
	}
	if err != nil {
		return withKind(kindConfig, withHint(err, "put this line before everything else in it yourself: %s", includeLine(file)))
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

// removeSSH takes away what configureSSH has written.
func (a *app) removeSSH(ctx context.Context) error {
	file, config, err := sshFiles()
	if err != nil {
		return err
	}
	excluded, err := awsconfig.Rewrite(ctx, config, func(was []byte) ([]byte, error) { return withoutInclude(was, file), nil })
	if err != nil {
		return withKind(kindConfig, withHint(err, "take this line out of it yourself: %s", includeLine(file)))
	}
	err = os.Remove(file) // the last: a file that includes it must find it
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return withKind(kindConfig, err)
	case err != nil && !excluded:
		fmt.Fprintf(a.err, "nothing has changed\n")
	default:
		fmt.Fprintf(a.err, "%s is gone, and %s includes it no more\n", file, config)
	}
	return nil
}

func includeLine(file string) string { return `Include "` + file + `"` }

// includeFirst returns an ssh_config that includes file before it does anything else. Where it does
// already, it stays as it is, byte for byte.
func includeFirst(was []byte, file string) []byte {
	line := includeLine(file)
	for l := range bytes.Lines(was) {
		text := strings.TrimSpace(string(l))
		if text == line {
			return was
		}
		if text != "" && !strings.HasPrefix(text, "#") {
			break
		}
	}
	return append([]byte(sshIncludeMark+"\n"+line+"\n"), withoutInclude(was, file)...)
}

// withoutInclude returns an ssh_config without the lines that include file.
func withoutInclude(was []byte, file string) []byte {
	var rest [][]byte
	for l := range bytes.Lines(was) {
		if text := strings.TrimSpace(string(l)); text != includeLine(file) && text != sshIncludeMark {
			rest = append(rest, l)
		}
	}
	return bytes.Join(rest, nil)
}
