//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestLookPath holds the rules of execvp (POSIX, exec).
func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, mode := range map[string]os.FileMode{"a/prog": 0o755, "a/text": 0o644, "b/prog": 0o755, "b/text": 0o755, "here": 0o755, "a/sub": 0} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if mode == 0 {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		what, path, want string
		code             int
	}{
		"first of two":         {"prog", "a:b", "a/prog", 0},
		"absolute":             {"prog", dir + "/b:a", dir + "/b/prog", 0},
		"passed over":          {"text", "a:b", "b/text", 0},
		"not executable":       {"text", "a", "", 126},
		"a folder":             {"sub", "a", "", 126},
		"not there":            {"none", "a:b", "", 127},
		"empty entry":          {"here", "a:", "here", 0},
		"empty path":           {"here", "", "here", 0},
		"dot":                  {"here", ".", "./here", 0},
		"no folder":            {"prog", "nothing:b", "b/prog", 0},
		"a file for a folder":  {"prog", "here:b", "b/prog", 0},
		"slash":                {"./here", "a", "./here", 0},
		"slash, no file":       {"./none", "a", "./none", 127},
		"slash, no program":    {"a/text", "", "a/text", 126},
		"slash, a folder":      {"a/sub", "", "a/sub", 126},
		"below a file":         {"here/x", "", "here/x", 126},
		"nothing":              {"", "a", "", 127},
		"dot alone":            {".", "a", "", 126},
		"not found in nothing": {"here", "a:b", "", 127},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := lookPath(c.what, []string{"X=PATH=b", "PATH=" + c.path, "PATH=/bin"})
			if got != c.want || exitCode(err) != c.code {
				t.Errorf("%q, %v", got, err)
			}
			var start startError
			if err != nil && !errors.As(err, &start) {
				t.Errorf("%T", err)
			}
		})
	}
	if got, err := lookPath("sh", nil); err != nil || got != "/bin/sh" {
		t.Errorf("without a PATH: %q, %v", got, err)
	}
}
