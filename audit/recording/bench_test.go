package recording

import (
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// null is a spool that costs nothing.
type null struct{ io.Writer }

func (null) Sync() error { return nil }

// BenchmarkWrite records 32 KiB frames; run it with -benchtime=32768x for 1 GiB.
func BenchmarkWrite(b *testing.B) {
	file, err := os.Create(filepath.Join(b.TempDir(), "spool"))
	must(b, err)
	defer file.Close()
	for _, bench := range []struct {
		name string
		f    File
		size int
	}{{"null/32KiB", null{io.Discard}, MaxData}, {"file/32KiB", file, MaxData}, {"null/keystroke", null{io.Discard}, 1}} {
		b.Run(bench.name, func(b *testing.B) {
			cfg := newPeople(b).config()
			cfg.Now = time.Now
			w := newWriter(b, bench.f, cfg)
			data := make([]byte, bench.size)
			rand.Read(data)
			b.SetBytes(int64(bench.size))
			b.ReportAllocs()
			for b.Loop() {
				must(b, w.Write(0, StreamOut, data))
			}
			_, err := w.Close("")
			must(b, err)
		})
	}
}

// TestWriteDoesNotAllocate holds the steady state inside a segment.
func TestWriteDoesNotAllocate(t *testing.T) {
	cfg := newPeople(t).config()
	cfg.Now = time.Now
	w := newWriter(t, null{io.Discard}, cfg)
	data := make([]byte, 1024)
	if n := testing.AllocsPerRun(500, func() { must(t, w.Write(0, StreamOut, data)) }); n != 0 {
		t.Fatalf("%g allocations a frame", n)
	}
}
