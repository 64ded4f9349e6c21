package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

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

// TestMissingRecording: one that the log announces and that is gone was made; and play, which asks
// for one session alone, says so as verify does.
func TestMissingRecording(t *testing.T) {
	for name, c := range map[string]struct{ end, want, hint string }{
		"gone":         {`{"recording":{"head":{"segments":2,"bytes":30,"hash":"c"},"tail_bytes":7,"verdict":"complete"}}`, "it is missing: none of its objects is there; the log knows of 2 segments, 37 bytes", "look for ssh_1/"},
		"never stored": {`{"recording":{"head":{"segments":0,"bytes":0,"hash":""},"verdict":"missing"}}`, "nothing of it was ever stored, as the log says itself", "sega audit show ssh_1"},
		"untold":       {`{}`, "the log says nothing of how long it was", "look for ssh_1/"},
		"lives":        {"", "has no end yet", "sega audit show ssh_1"},
	} {
		t.Run(name, func(t *testing.T) {
			b := searching(newLogBroker(t, 0))
			b.append(event(audit.KindSessionStart, audit.Success, "ssh_1", recordedDetail))
			if c.end != "" {
				b.append(event(audit.KindSessionEnd, audit.Success, "ssh_1", c.end))
			}
			r := b.reviewer()
			id, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "reviewer.age")
			if err := os.WriteFile(file, []byte(id.String()+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			code := r.sega("audit", "play", "ssh_1", "--reason", "INC-7", "--identity", file)
			if talk := r.talk.String(); code != exitFailed || !strings.Contains(talk, "the log knows of a recording of ssh_1") || !strings.Contains(talk, c.want) || !strings.Contains(talk, c.hint) {
				t.Errorf("exit %d\n%s", code, talk)
			}
		})
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
