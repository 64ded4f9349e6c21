package bastion

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// memoryFile is a spool in memory.
type memoryFile struct{ bytes.Buffer }

func (*memoryFile) Sync() error  { return nil }
func (*memoryFile) Close() error { return nil }

// TestRoomComesAheadOfWhatIsWritten: a recording that grows large has room for each write before it comes, takes it in few
// steps, and is written whole where the disk gives none.
func TestRoomComesAheadOfWhatIsWritten(t *testing.T) {
	for name, c := range map[string]struct {
		size, writes int
		refuse       error
		takes        int // at most; 0 for none at all
	}{
		"a small session":               {size: 4 << 10, writes: 200},
		"one that has just grown large": {size: 1 << 20, writes: 1},
		"a large one":                   {size: 256<<10 + 272, writes: 200, takes: 13},
		"one write larger than a step":  {size: 9 << 20, writes: 2, takes: 1},
		"the disk gives no room":        {size: 256 << 10, writes: 200, refuse: errors.ErrUnsupported, takes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var disk memoryFile
			var takes int
			var end int64
			f := &roomyFile{SpoolFile: &disk, take: func(from, n int64) error {
				if from < int64(disk.Len()) || end > 0 && from != end {
					t.Errorf("room from %d on, where %d bytes are written and room ends at %d", from, disk.Len(), end)
				}
				takes++
				end = from + n
				return c.refuse
			}}
			for i := range c.writes {
				p := bytes.Repeat([]byte{byte(i)}, c.size)
				if n, err := f.Write(p); n != c.size || err != nil {
					t.Fatal(n, err)
				}
				if takes > 0 && c.refuse == nil && int64(disk.Len()) > end {
					t.Fatalf("%d bytes are written, and room ends at %d", disk.Len(), end)
				}
			}
			if takes > c.takes || c.takes > 0 && takes == 0 {
				t.Errorf("%d calls", takes)
			}
			for i := range c.writes {
				if got := disk.Next(c.size); !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, c.size)) {
					t.Fatalf("write %d is not there", i)
				}
			}
		})
	}
}

// TestRoomChangesNoFile: what is read back is what was written and nothing behind it, be there room on the disk or not.
func TestRoomChangesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	raw, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	f := roomy(raw)
	var want bytes.Buffer
	for i := range 24 {
		p := bytes.Repeat([]byte{byte(i + 1)}, 300<<10+i)
		want.Write(p)
		if _, err := f.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d of %d bytes, %v", len(got), want.Len(), err)
	}
	if r, ok := f.(*roomyFile); ok && r.room == math.MaxInt64 {
		t.Log("this file system gives no room ahead")
	}
}

// TestRoomGoesBack: a recording that is closed takes no more of the disk than it is long, however long it waits for its bucket.
func TestRoomGoesBack(t *testing.T) {
	for name, c := range map[string]struct{ writes, want int }{"small": {3, 0}, "large": {5, 1}} {
		t.Run(name, func(t *testing.T) {
			var disk memoryFile
			var given int
			f := &roomyFile{SpoolFile: &disk, take: func(int64, int64) error { return nil }, giveBack: func() error { given++; return nil }}
			for range c.writes {
				if _, err := f.Write(make([]byte, roomFrom/4)); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil || given != c.want {
				t.Errorf("given back %d times, %v", given, err)
			}
		})
	}
}
