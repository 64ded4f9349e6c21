//go:build linux

package host

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestKeep: what sshd itself reads says what the daemon says, a revoked host's principals too, and what could not be
// written is not taken for written.
func TestKeep(t *testing.T) {
	v, _ := bundleOf(t)
	d := &Daemon{cfg: Config{dir: t.TempDir(), By: ByFile}, log: slog.New(slog.DiscardHandler)}
	login, bundle := filepath.Join(d.cfg.file(principalsName), "deploy"), d.cfg.file(bundleName)
	if err := os.MkdirAll(filepath.Join(bundle, "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.keep(v); err == nil || !d.unwritten {
		t.Errorf("kept: %v, to be tried again: %v", err, d.unwritten)
	}
	if err := os.RemoveAll(bundle); err != nil {
		t.Fatal(err)
	}
	if err := d.keep(v); err != nil || d.unwritten {
		t.Errorf("not kept: %v, to be tried again: %v", err, d.unwritten)
	}
	if got, err := os.ReadFile(login); err != nil || string(got) != "deploy@db-1\n" {
		t.Errorf("sshd reads %q, %v", got, err)
	}
	v.Blocked = true
	if err := d.keep(v); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(login); !os.IsNotExist(err) {
		t.Errorf("a revoked host has principals: %v", err)
	}
}
