package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/recording"
)

func TestExportOptions(t *testing.T) {
	for name, c := range map[string]struct {
		o        exportOptions
		terminal bool
		want     string
	}{
		"text to a terminal":        {exportOptions{format: "text", stream: "out"}, true, ""},
		"cast to a pipe":            {exportOptions{format: "asciicast-v2", stream: "out", output: "-"}, false, ""},
		"cast to a terminal":        {exportOptions{format: "asciicast-v3", stream: "out", output: "-"}, true, "not for a terminal"},
		"raw to a terminal":         {exportOptions{format: "raw", stream: "out"}, true, "not for a terminal"},
		"cast to a file":            {exportOptions{format: "asciicast-v3", stream: "out", output: "x"}, true, ""},
		"no such format":            {exportOptions{format: "mp4", stream: "out"}, false, "--format is one of"},
		"no such stream":            {exportOptions{format: "raw", stream: "event"}, false, "--stream is"},
		"the stream of a text":      {exportOptions{format: "text", stream: "err"}, false, "belongs to --format raw"},
		"the input of a text":       {exportOptions{format: "text", stream: "out", input: true}, false, "belongs to an asciicast"},
		"unfiltered raw":            {exportOptions{format: "raw", stream: "out", unfiltered: true}, false, "raw is exact always"},
		"unfiltered":                {exportOptions{format: "asciicast-v2", stream: "out", output: "x", unfiltered: true}, false, ""},
		"a channel's name":          {exportOptions{format: "raw", stream: "out", channel: "shell"}, false, "--channel is a number"},
		"a channel too large":       {exportOptions{format: "raw", stream: "out", channel: "4294967296"}, false, "--channel is a number"},
		"all channels to a pipe":    {exportOptions{format: "raw", stream: "out", channel: "all", output: "-"}, false, "--output FILE"},
		"all channels, a file each": {exportOptions{format: "raw", stream: "out", channel: "all", output: "x.bin"}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.o.check(c.terminal)
			if c.want == "" && err != nil || c.want != "" && (exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestPlayOptions(t *testing.T) {
	for line, want := range map[string]string{
		"audit play ssh_1 --speed NaN":             "--speed is above 0",
		"audit play ssh_1 --from 3m20s":            "are for a terminal",
		"audit play ssh_1 --find x":                "are for a terminal",
		"audit play ssh_1 --from -1s":              "not below 0",
		"audit play ssh_1 --channel one":           "--channel is a number",
		"audit play ssh_1 --from 1s --find x":      "at --from or at --find",
		"audit export":                             "SESSION is missing",
		"audit export ssh_1 --format gif":          "--format is one of",
		"audit export ssh_1 --format asciicast-v3": "--identity FILE",
	} {
		a, out, talk := testApp(t)
		if code := run(t.Context(), strings.Fields(line), a); code != exitUsage || !strings.Contains(talk.String(), want) || out.Len() > 0 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", line, code, out, talk)
		}
	}
}

// tapeOf is a tape of a reel, as if it had been fetched.
func tapeOf(t *testing.T, r *reel) *tape {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "recording"))
	r.must(err)
	_, err = f.Write(r.file.Bytes())
	r.must(err)
	t.Cleanup(func() { _ = f.Close() })
	announced := r.writer.Announce()
	return &tape{evidence: &evidence{id: "ssh_0123456789abcdef", start: &audit.Event{Actor: audit.Actor{Email: "alice@example.com"}},
		started: startDetails{Host: "web-1", Login: "root", Recording: &announced}}, file: f, identities: r.ids}
}

// TestExportIsFiltered: an asciicast is what the player lets pass, unless all of it is asked for.
func TestExportIsFiltered(t *testing.T) {
	tp := tapeOf(t, shellReel(t))
	s, err := readScore(t.Context(), tp.reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	for unfiltered, want := range map[bool]string{false: `,"o","6nRed alert`, true: `]52;c;cm0=\u0007`} {
		var out bytes.Buffer
		if err := (exportOptions{format: "asciicast-v2", unfiltered: unfiltered}).write(t.Context(), &out, tp, s.channels[0]); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("unfiltered %v: %v\n%s", unfiltered, err, &out)
		}
	}
}

// TestExportOfFiles: SFTP is no text, and a line says so and where what it did is found; of any other program its output stays text.
func TestExportOfFiles(t *testing.T) {
	r := newReel(t)
	r.event(1, recording.Event{Type: recording.EventSubsystem, Name: "sftp"})
	r.write(1, "\x00\x00\x00\x05\x02\x00\x00\x00\x03\xff\xfe")
	r.event(2, recording.Event{Type: recording.EventSubsystem, Name: "netconf"})
	r.write(2, "<hello/>\n")
	tp := tapeOf(t, r.close())
	s, err := readScore(t.Context(), tp.reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := "channel 1, subsystem sftp (11 bytes out, 0 err) is no text; what it did says: sega audit query 'session:ssh_0123456789abcdef kind:sftp.*'; its bytes: --format raw\n"
	for i, want := range []string{files, "<hello/>\n"} {
		var out bytes.Buffer
		if err := (exportOptions{format: formatText}).write(t.Context(), &out, tp, s.channels[i]); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("channel %d (-want +got):\n%s", i+1, diff)
		}
	}
}

func TestExportFile(t *testing.T) {
	tp := tapeOf(t, shellReel(t))
	a, _, talk := testApp(t)
	o := exportOptions{format: "asciicast-v3", stream: "out"}
	s, err := readScore(t.Context(), tp.reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := o.choose(s.channels)
	if err != nil {
		t.Fatal(err)
	}
	name := numbered(filepath.Join(t.TempDir(), "a.b.cast"), c.ID)
	if err := a.exportFile(t.Context(), tp, c, o, name); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var header map[string]any
	if err := json.Unmarshal(data[:bytes.IndexByte(data, '\n')], &header); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("ssh_0123456789abcdef root@web-1 alice@example.com", header["title"]); diff != "" || !strings.HasSuffix(name, "a.b-1.cast") {
		t.Errorf("%s: %s", name, diff)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if strings.ContainsAny(talk.String(), "\x1b\x07") || !strings.Contains(talk.String(), "channel 1") {
		t.Errorf("%q", talk)
	}
	if err := a.exportFile(t.Context(), tp, c, o, name); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("replaced: %v", err)
	}
}

// TestEscaping: on a terminal nothing is obeyed, wherever it is cut, and nothing that shows is lost.
func TestEscaping(t *testing.T) {
	const in = "gr\u00fc\u00dfe \u20ac\n\x1b]52;c;x\x07\x1b[31mred\u009b6n\u202e end\tüx"
	const want = "grüße €\n\\u001b]52;c;x\\u0007\\u001b[31mred\\u009b6n\\u202e end\tüx"
	for size := 1; size < len(in); size++ {
		var out bytes.Buffer
		e := &escaping{w: &out}
		for rest := []byte(in); len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := e.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Fatalf("cut at %d: %s", size, diff)
		}
	}
}

// TestReplayToAPipe: what is no terminal gets every byte, of all channels or of one.
func TestReplayToAPipe(t *testing.T) {
	r := newReel(t)
	r.write(1, "one\x1b]0;x\x07\n")
	r.write(2, "two\n")
	tp := tapeOf(t, r.close())
	for channel, want := range map[string]string{"": "one\x1b]0;x\x07\ntwo\n", "all": "one\x1b]0;x\x07\ntwo\n", "2": "two\n"} {
		a, out, _ := testApp(t)
		o := playOptions{speed: 1, channel: channel}
		c, err := o.choose(tp, false)
		if err != nil {
			t.Fatal(err)
		}
		in, err := tp.reader()
		if err != nil {
			t.Fatal(err)
		}
		if err := a.replay(context.Background(), in, c, o); err != nil || out.String() != want {
			t.Errorf("channel %q: %q, %v", channel, out, err)
		}
	}
	if _, err := (playOptions{channel: "7"}).choose(tp, false); err == nil {
		t.Error("there is no channel 7")
	}
}

// TestTapeIsReadTwice: two readers of one tape do not disturb each other.
func TestTapeIsReadTwice(t *testing.T) {
	tp := tapeOf(t, shellReel(t))
	a, err := tp.reader()
	if err != nil {
		t.Fatal(err)
	}
	b, err := tp.reader()
	if err != nil {
		t.Fatal(err)
	}
	for {
		x, errX := a.Next()
		y, errY := b.Next()
		if diff := cmp.Diff(x, y); diff != "" || errX != errY {
			t.Fatalf("%v, %v, %s", errX, errY, diff)
		}
		if errX == io.EOF {
			return
		}
	}
}
