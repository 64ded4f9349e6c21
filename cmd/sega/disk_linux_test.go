package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sega/keychain/secret"
)

// smallDisk mounts a file system of 64 KiB. Without the right to mount, the test is skipped by name,
// or fails in CI.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("sega", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s was not tested, because nothing may be mounted here: %v", t.Name(), err)
		}
		t.Skipf("NOT TESTED: %s, because nothing may be mounted here: %v", t.Name(), err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// TestFullDisk: a disk that is full, or to be read only, is told as such, and what lies on it stays whole.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	a, _, _ := testApp(t, "SEGA_HOME="+filepath.Join(dir, "home"))
	store, err := a.secrets()
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put("x", secret.FromString("kept")); err != nil {
		t.Fatal(err)
	}
	if err := a.writeFile("broker.json", []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(what, hint string) {
		t.Helper()
		for name, err := range map[string]error{"the secrets": store.Put("x", secret.FromString(strings.Repeat("lost", 20<<10))), "a file": a.writeFile("broker.json", make([]byte, 80<<10), 0o600)} {
			if got := explanationOf(err, "sega"); err == nil || got.Kind != kindDisk || got.Exit != exitFailed || !strings.Contains(got.Detail, what) || !strings.Contains(got.Hint, hint) {
				t.Errorf("%s: %v: %+v", name, err, got)
			}
		}
		again, _, _ := testApp(t, "SEGA_HOME="+filepath.Join(dir, "home"))
		fresh, err := again.secrets()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fresh.Get("x"); err != nil || string(got.Reveal()) != "kept" {
			t.Errorf("%s: %v", what, err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "home", "broker.json")); err != nil || string(got) != "kept" {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	check("no space left on device", "free the disk")
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	check("read-only file system", "SEGA_HOME")
}
