//go:build linux

package cast

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"sega/audit/recording"
	"sega/audit/recording/export"
)

const (
	cols, rows = 48, 12
	exitStatus = 5
)

// shown is what stands on the screen at the recording's end.
var shown = []string{
	"top line",
	"$ grüße € 😀 漢字 <b>&amp;</b>",
	"red and plain, overwritten",
	"stderr comes in between",
	"broken: �(�� end",
	"$ exit",
}

// pieces are what the host sent. Characters are cut, in one case by standard error.
var pieces = []struct {
	stream recording.Stream
	data   string
}{
	{recording.StreamOut, "this is cleared away\r\n\x1b[2J\x1b[H"},
	{recording.StreamOut, "top lime\b\bn"},
	{recording.StreamOut, "e\r\n$ gr\xc3"},
	{recording.StreamOut, "\xbc\xc3\x9fe \xe2\x82"},
	{recording.StreamOut, "\xac \xf0\x9f"},
	{recording.StreamOut, "\x98\x80 \xe6\xbc\xa2\xe5"},
	{recording.StreamOut, "\xad\x97 <b>&amp;</b>\r\n\x1b[1;31mred\x1b[0m and "},
	{recording.StreamOut, "plain, OVERWRITTEN\x1b[11Doverwritten\x1b[K\r\n"},
	{recording.StreamErr, "stderr comes in between\r\n"},
	{recording.StreamOut, "broken: \xff(\xe2\x82 end\r\n$ exit"},
}

// record makes a recording through the real writer, with a resize and an exit.
func record(t *testing.T) func() *recording.Reader {
	t.Helper()
	at := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	var ids []age.Identity
	var to []age.Recipient
	for range 2 {
		id, err := age.GenerateX25519Identity()
		must(t, err)
		ids, to = append(ids, id), append(to, id.Recipient())
	}
	var file spool
	w, err := recording.New(&file, recording.Config{SessionID: "ssh_0123456789abcdef", Recipients: to, Now: func() time.Time { return at }})
	must(t, err)
	event := func(e recording.Event) { must(t, w.WriteEvent(1, e)) }
	event(recording.Event{Type: recording.EventPty, Cols: 80, Rows: 24, Term: "xterm-256color"})
	event(recording.Event{Type: recording.EventShell})
	for i, p := range pieces {
		at = at.Add(100*time.Millisecond + 400*time.Microsecond)
		must(t, w.Write(1, p.stream, []byte(p.data)))
		if i == 0 {
			event(recording.Event{Type: recording.EventResize, Cols: cols, Rows: rows})
		}
	}
	at = at.Add(100 * time.Millisecond)
	event(recording.Event{Type: recording.EventExit, Status: exitStatus})
	_, err = w.Close("closed by the person")
	must(t, err)
	return func() *recording.Reader {
		r, err := recording.Open(bytes.NewReader(file.Bytes()), ids...)
		must(t, err)
		return r
	}
}

type spool struct{ bytes.Buffer }

func (*spool) Sync() error { return nil }

// exported writes the recording as an asciicast into a file of a folder and returns its path.
func exported(t *testing.T, open func() *recording.Reader, dir string, version int) string {
	t.Helper()
	list, err := export.Channels(open())
	must(t, err)
	c, err := export.Choose(list)
	must(t, err)
	path := filepath.Join(dir, map[int]string{2: "v2.cast", 3: "v3.cast"}[version])
	f, err := os.Create(path)
	must(t, err)
	must(t, export.Cast(f, open(), export.CastOptions{Version: version, Channel: c, Title: "</script><b>title"}))
	must(t, f.Close())
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
