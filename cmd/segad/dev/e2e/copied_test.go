//go:build linux

package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// TestCopiedHome copies a person's folder to another machine: without its key it is worth nothing,
// and what is wrong is said.
func TestCopiedHome(t *testing.T) {
	e := devtest.Up(t)
	owner := e.LoggedIn(alice)
	copied := func(key func(string) bool) *devtest.Person {
		thief := e.Person(alice)
		err := filepath.WalkDir(owner.Home, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(owner.Home, path)
			to := filepath.Join(thief.Home, rel)
			if d.IsDir() {
				return os.MkdirAll(to, 0o700)
			}
			if strings.HasPrefix(d.Name(), "key-") && !key(path) {
				return nil
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			return os.WriteFile(to, data, info.Mode())
		})
		if err != nil {
			t.Fatal(err)
		}
		return thief
	}
	whole := copied(func(string) bool { return true })
	expect(t, whole.Sega("roles"), 0) // else the refusals would prove nothing
	bare := copied(func(string) bool { return false })
	other := copied(func(string) bool { return true })
	keys, err := filepath.Glob(filepath.Join(other.Home, "secrets", "key-*"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("key files %v, %v", keys, err)
	}
	if err := errors.Join(os.Chmod(keys[0], 0o600), os.WriteFile(keys[0], []byte(strings.Repeat("00", 32)+"\n"), 0o600), os.Chmod(keys[0], 0o400)); err != nil {
		t.Fatal(err)
	}
	for name, thief := range map[string]*devtest.Person{"without the key file": bare, "with another key": other} {
		for _, args := range [][]string{{"exec", "dev-admin", "--", "true"}, {"credential-process", "dev-admin"}, {"ssh", e.Host.Name, "--", "true"}, {"audit", "query"}} {
			r := thief.Sega(args...)
			if r.Code != 4 || !strings.Contains(r.Err, "key") || !strings.Contains(r.Err, "sega login") || r.Out != "" {
				t.Errorf("%s: sega %v: exit %d, want 4 and what is missing\n%s%s", name, args, r.Code, r.Out, r.Err)
			}
		}
	}
	if n := len(owner.Events("--user", alice, "--kind", "aws.*")); n != 0 {
		t.Errorf("%d hand-outs of AWS credentials", n)
	}
}
