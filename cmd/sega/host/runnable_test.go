//go:build linux

package host

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnfit: what sshd's safe_path refuses at a login, and what the account could not reach.
func TestUnfit(t *testing.T) {
	for name, c := range map[string]struct {
		mode    fs.FileMode
		owner   uint32
		account string
		want    string // part of the answer
	}{
		"root's":                    {0o755, 0, DefaultUser, ""},
		"of an account":             {0o755, 1000, DefaultUser, "not root's"},
		"a group may write":         {0o775, 0, DefaultUser, "written by others"},
		"everybody, if sticky":      {fs.ModeSticky | 0o777, 0, DefaultUser, "written by others"},
		"closed":                    {0o700, 0, DefaultUser, "closed to nobody"},
		"closed, for its own group": {0o750, 0, "sega", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := unfit(c.mode, c.owner, c.account); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestRunnable looks at every folder above the program, behind links.
func TestRunnable(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "sega")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/bin/sh", link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		e    Config
		want string
	}{
		"the system's":             {Config{Sega: "/bin/sh", By: ByCommand, User: DefaultUser}, ""},
		"a link to it":             {Config{Sega: link, By: ByCommand, User: DefaultUser}, ""},
		"in a folder of everybody": {Config{Sega: program, By: ByCommand, User: DefaultUser}, "sshd would not run"},
		"for keys":                 {Config{Sega: program, By: ByFile, PlainKeys: true, User: DefaultUser}, "sshd would not run"},
		"sshd runs nothing":        {Config{Sega: program, By: ByFile, User: DefaultUser}, ""},
		"it is not there":          {Config{Sega: "/no/such/program", By: ByCommand, User: DefaultUser}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			err := (&Enrolment{Config: c.e}).runnable()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
