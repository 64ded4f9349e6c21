package screen

import (
	"io"
	"strings"
	"testing"
)

// BenchmarkLines draws what a shell prints in colour, with a terminal and without.
func BenchmarkLines(b *testing.B) {
	const line = "-rw-r--r-- 1 root root  4096 Nov 22 08:22 \x1b[01;34ma folder with a name\x1b[0m and some more\r\n"
	text := strings.Repeat(line, (32<<10)/len(line))
	for name, p := range map[string]*tape{"terminal": pty(b, 120, 40), "plain": {t: b}} {
		b.Run(name, func(b *testing.B) {
			for range 32 {
				p.out(text)
			}
			b.SetBytes(int64(32 * len(text)))
			for b.Loop() {
				for range drawnLines(p.next(io.EOF)) {
				}
			}
		})
	}
}
