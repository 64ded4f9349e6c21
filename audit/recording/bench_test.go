//go:build unix

package recording

import (
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"syscall"
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
		hash Hash
	}{
		{"null/32KiB/blake2b", null{io.Discard}, MaxData, BLAKE2b},
		{"null/32KiB/sha256", null{io.Discard}, MaxData, SHA256},
		{"file/32KiB/faster", file, MaxData, FasterHash()},
		{"file/64KiB/faster", file, 2 * MaxData, FasterHash()},
		{"file/256KiB/faster", file, 8 * MaxData, FasterHash()},
		{"null/keystroke/faster", null{io.Discard}, 1, FasterHash()},
	} {
		b.Run(bench.name, func(b *testing.B) {
			cfg := newPeople(b).config()
			cfg.Now, cfg.Hash = time.Now, bench.hash
			w := newWriter(b, bench.f, cfg)
			data := make([]byte, bench.size)
			rand.Read(data)
			b.SetBytes(int64(bench.size))
			b.ReportAllocs()
			from := cpuTime(b)
			for b.Loop() {
				must(b, w.Write(0, StreamOut, data))
			}
			reportCPU(b, from, int64(b.N)*int64(bench.size))
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

// TestCalmWriterGivesItsBufferBack: what a burst has needed is there for the next one, and gone after a second
// of little.
func TestCalmWriterGivesItsBufferBack(t *testing.T) {
	w := newWriter(t, null{io.Discard}, newPeople(t).config())
	burst := func() { must(t, w.Write(0, StreamOut, make([]byte, 256<<10))) }
	burst()
	if cap(w.buf) < 256<<10 {
		t.Fatalf("the next burst finds room for %d bytes", cap(w.buf))
	}
	must(t, w.Seal())
	must(t, w.Write(0, StreamOut, []byte("$ ")))
	must(t, w.Seal())
	if cap(w.buf) > keepBytes {
		t.Fatalf("a calm writer keeps %d bytes", cap(w.buf))
	}
	burst()
	must(t, w.Seal())
	must(t, w.Seal())
	if cap(w.buf) > keepBytes {
		t.Fatalf("an idle writer keeps %d bytes", cap(w.buf))
	}
}

// reportCPU adds the processor time that a GiB costs, which other work on the machine disturbs
// less than the time that passes.
func reportCPU(b *testing.B, from time.Duration, bytes int64) {
	b.ReportMetric((cpuTime(b)-from).Seconds()*(1<<30)/float64(bytes), "cpu-s/GiB")
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
