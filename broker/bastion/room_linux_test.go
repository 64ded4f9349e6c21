package bastion

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestRoomOnTheDiskGoesBack holds a closed recording's room on this file system against its length.
func TestRoomOnTheDiskGoesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	raw, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	f := roomy(raw)
	for range 5 {
		if _, err := f.Write(make([]byte, roomFrom/4)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var is syscall.Stat_t
	if err := syscall.Stat(path, &is); err != nil {
		t.Fatal(err)
	}
	if is.Size != 5*roomFrom/4 || is.Blocks*512 > is.Size+roomStep/2 {
		t.Errorf("%d bytes take %d of the disk", is.Size, is.Blocks*512)
	}
}
