package main

import (
	"strings"
	"testing"

	"github.com/hinshun/vt10x"
)

// TestSane: whatever may have been let through is undone, and the cursor stays where it was.
func TestSane(t *testing.T) {
	for _, undo := range []string{"\x1b%G", "\x1b[!p", "\x1b[2l", "\x1b[20l", "\x1b[?5l", "\x1b[?1004l", "\x1b[?1005l", "\x1b[?1015l", "\x1b[?2048l", "\x1b[<u", "\x1b[>4;0m"} {
		if !strings.Contains(sane, undo) {
			t.Errorf("%q is missing", undo)
		}
	}
	if saved := strings.Index(sane, "\x1b[s"); saved < strings.Index(sane, "\x1b[!p") {
		t.Error("a soft reset forgets the cursor that was saved before it")
	}
	term := vt10x.New(vt10x.WithSize(20, 5))
	known := strings.ReplaceAll(sane, "\x1b%G", "") // this emulator takes the G for a letter
	_, _ = term.Write([]byte("\x1b[2;4r\x1b[?6h\x1b[2;7Hx" + known))
	if c := term.Cursor(); c.X != 7 || c.Y != 2 {
		t.Errorf("the cursor is at %d,%d", c.X, c.Y)
	}
}
