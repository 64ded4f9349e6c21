//go:build linux

package host

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestJournal: no journal at all is not the same as one without logins.
func TestJournal(t *testing.T) {
	for name, c := range map[string]struct {
		sshd, all  string // what the journal has of sshd, and of anybody
		read, fail string
	}{
		"logins":     {"a login", "a login", "a login", ""},
		"no logins":  {"", "the kernel", "", ""},
		"no journal": {"", "", "", "sega host audit /var/log/auth.log"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script := fmt.Sprintf("#!/bin/sh\ncase $1 in --identifier*) printf %%s '%s';; *) printf %%s '%s';; esac\n", c.sshd, c.all)
			if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir)
			var got []byte
			err := Journal(t.Context(), "", func(r io.Reader) (err error) {
				got, err = io.ReadAll(r)
				return err
			})
			if string(got) != c.read || (err == nil) != (c.fail == "") || err != nil && !strings.Contains(err.Error(), c.fail) {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}
