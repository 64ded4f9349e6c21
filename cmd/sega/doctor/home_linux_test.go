package doctor

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestHomeOnABadDisk: a small disk is found full, and one to be read only is told as such; nothing is written.
func TestHomeOnABadDisk(t *testing.T) {
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
	m := newMachine(t)
	m.Home = dir
	found, _ := m.examine()
	m.expect(found, "home", Fail, "64 KiB are free", "free the disk of "+dir)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	found, _ = m.examine()
	m.expect(found, "home", Fail, "read-only file system", "set SEGA_HOME")
	m.Home = filepath.Join(dir, "not", "yet")
	found, _ = m.examine()
	m.expect(found, "home", Fail, "cannot be made: "+dir+": read-only file system", "set SEGA_HOME")
}
