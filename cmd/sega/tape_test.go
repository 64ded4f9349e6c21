package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/audit"
	"sega/audit/recording"
)

// TestKeepIsBounded: a broker cannot send more than the log knows of a recording.
func TestKeepIsBounded(t *testing.T) {
	for sent, fits := range map[string]bool{"": true, "12345": true, "123456": false, strings.Repeat("x", 1<<20): false} {
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		err = keep(f, strings.NewReader(sent), 5)
		info, statErr := f.Stat()
		if (err == nil) != fits || statErr != nil || info.Size() > 6 {
			t.Errorf("%d bytes: %v, %d kept", len(sent), err, info.Size())
		}
		tp := &tape{file: f}
		tp.close()
		if _, err := os.Stat(f.Name()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file stays: %v", err)
		}
	}
	ended := &evidence{ended: endDetails{Recording: &recording.End{Head: recording.Head{Bytes: 70}, TailBytes: 7}}}
	if got := []int64{ended.most(), (&evidence{}).most()}; got[0] != 77 || got[1] != mostLive {
		t.Errorf("%d", got)
	}
}

// TestCommandsAreBounded: who is recorded chooses how many commands there are, and show says how many
// it left out.
func TestCommandsAreBounded(t *testing.T) {
	c := newCollector()
	if err := c.add(0, event("session.start", audit.Success, "ssh_1", startDetail)); err != nil {
		t.Fatal(err)
	}
	for i := range maxCommands + 3 {
		if err := c.add(int64(i+1), event("session.command", audit.Success, "ssh_1", fmt.Sprintf(`{"type":"exec","command":"n%d"}`, i))); err != nil {
			t.Fatal(err)
		}
	}
	out := summary(c.sessions["ssh_1"])
	if len(out.Commands) != maxCommands || out.Unlisted != 3 {
		t.Errorf("%d commands, %d not listed", len(out.Commands), out.Unlisted)
	}
	a, text, _ := testApp(t)
	if err := a.showSession(out); err != nil || !strings.Contains(text.String(), "3 more: sega audit query") {
		t.Errorf("%v", err)
	}
}
