package export

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit/recording"
)

func castOf(t testing.TB, p *tape, o CastOptions) string {
	t.Helper()
	var b bytes.Buffer
	must(t, Cast(&b, p.reader(), o))
	return b.String()
}

// shellTape is a session with a terminal that is resized, a cut character and an exit.
func shellTape(t testing.TB) *tape {
	p := newTape(t)
	p.after(1500 * time.Millisecond)
	p.event(2, recording.Event{Type: recording.EventOpen})
	p.event(2, recording.Event{Type: recording.EventPty, Cols: 100, Rows: 30, Term: "xterm"})
	p.event(2, recording.Event{Type: recording.EventEnv, Name: "SECRET", Value: "x"})
	p.event(2, recording.Event{Type: recording.EventShell})
	p.after(250*time.Millisecond + 400*time.Microsecond)
	p.write(2, recording.StreamOut, "<gr\xc3")
	p.after(400 * time.Microsecond)
	p.write(2, recording.StreamErr, "e\xe2\x82")
	p.write(2, recording.StreamIn, "pass\r")
	p.write(2, recording.StreamOut, "\xbc\xffn&>\n")
	p.after(2 * time.Second)
	p.event(2, recording.Event{Type: recording.EventResize, Cols: 80, Rows: 100000})
	p.event(2, recording.Event{Type: recording.EventExit, Status: 5})
	p.write(2, recording.StreamOut, "late\xe2")
	p.close()
	return p
}

func TestCastV2(t *testing.T) {
	p := shellTape(t)
	got := castOf(t, p, CastOptions{Version: 2, Channel: p.channels()[0], Title: "a\x1b]0;b\u202e"})
	want := `{"version":2,"width":100,"height":30,"timestamp":1788264001,"title":"a]0;b","env":{"TERM":"xterm"}}
[0.0,"m","shell"]
[0.2504,"o","<gr"]
[0.2508,"o","e"]
[0.2508,"o","ü�n&>\n"]
[2.2508,"r","80x65535"]
[2.2508,"m","exit 5"]
[2.2508,"o","late"]
[2.2508,"o","�"]
[2.2508,"o","��"]
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
}

func TestCastV3(t *testing.T) {
	p := shellTape(t)
	got := castOf(t, p, CastOptions{Version: 3, Channel: p.channels()[0]})
	want := `{"version":3,"term":{"cols":100,"rows":30,"type":"xterm"},"timestamp":1788264001}
[0.000,"m","shell"]
[0.250,"o","<gr"]
[0.001,"o","e"]
[0.000,"o","ü�n&>\n"]
[2.000,"r","80x65535"]
[0.000,"o","late"]
[0.000,"o","�"]
[0.000,"o","��"]
[0.000,"x","5"]
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
}

// TestCastIsHarmless: a player on a terminal hands on what it reads, so that nothing may act there; a
// sequence of one stream is cut by no output of the other. Unfiltered holds all.
func TestCastIsHarmless(t *testing.T) {
	p := newTape(t)
	p.event(1, recording.Event{Type: recording.EventPty, Cols: 80, Rows: 24, Term: "screen"})
	p.write(1, recording.StreamOut, "a\x1b]52;c;cm0g")
	p.write(1, recording.StreamErr, "\x1b[1")
	p.write(1, recording.StreamOut, "LXJm\x07b\x1b[6n\x1b[31mc\x1bkname\x1b\\")
	p.write(1, recording.StreamErr, "md")
	p.close()
	for unfiltered, want := range map[bool]string{false: "ab\x1b[31mc\x1b[1md", true: "a\x1b]52;c;cm0g\x1b[1LXJm\x07b\x1b[6n\x1b[31mc\x1bkname\x1b\\md"} {
		for version := 2; version <= 3; version++ {
			_, events := parseCast(t, castOf(t, p, CastOptions{Version: version, Channel: p.channels()[0], Unfiltered: unfiltered}))
			if got := joined(events, "o"); got != want {
				t.Errorf("version %d, unfiltered %v: %q, want %q", version, unfiltered, got, want)
			}
		}
	}
}

// TestCastInput: what was typed is left out unless it is asked for by somebody whose identity opens it.
func TestCastInput(t *testing.T) {
	p := shellTape(t)
	ch := p.channels()[0]
	for name, c := range map[string]struct {
		reader *recording.Reader
		input  bool
		want   string
	}{
		"not asked for": {p.reader(p.reviewer, p.typist), false, ""},
		"not permitted": {p.reader(), true, ""},
		"both":          {p.reader(p.reviewer, p.typist), true, "pass\r"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			must(t, Cast(&b, c.reader, CastOptions{Version: 3, Channel: ch, Input: c.input}))
			_, events := parseCast(t, b.String())
			if got := joined(events, "i"); got != c.want {
				t.Errorf("input %q, want %q", got, c.want)
			}
		})
	}
}

// TestCastWithoutTerminal: nobody's terminal made CR LF of the host's LF; a player has no driver that would.
func TestCastWithoutTerminal(t *testing.T) {
	p := newTape(t)
	p.event(0, recording.Event{Type: recording.EventExec, Command: "printf 'a\nb' \x1b[31m"})
	p.write(0, recording.StreamOut, "a\nb\n")
	p.close()
	header, events := parseCast(t, castOf(t, p, CastOptions{Version: 2, Channel: p.channels()[0]}))
	if diff := cmp.Diff(map[string]any{"version": 2.0, "width": 80.0, "height": 24.0, "timestamp": 1788264000.0, "command": "printf 'a b' [31m"}, header); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := joined(events, "o"); got != "a\r\nb\r\n" {
		t.Errorf("output %q", got)
	}
}

// TestCastKeepsTime: over a hundred thousand frames the intervals of version 3 add up to the time
// of version 2 within a millisecond, and none is negative.
func TestCastKeepsTime(t *testing.T) {
	p := newTape(t)
	p.event(0, recording.Event{Type: recording.EventPty, Cols: 80, Rows: 24})
	random := rand.New(rand.NewPCG(3, 4))
	var want time.Duration
	const frames = 100_000
	for range frames {
		d := time.Duration(random.IntN(1_400_000)) // half a millisecond off, most of the time
		want += d
		p.after(d)
		p.write(0, recording.StreamOut, "x")
	}
	p.close()
	_, events := parseCast(t, castOf(t, p, CastOptions{Version: 3, Channel: p.channels()[0]}))
	var total float64
	for _, e := range events {
		if e.Time < 0 {
			t.Fatalf("interval %g", e.Time)
		}
		total += e.Time
	}
	if off := total - want.Seconds(); len(events) != frames || off > 0.001 || off < -0.001 {
		t.Errorf("%d events, %g s too long", len(events), off)
	}
}

func TestCastExit(t *testing.T) {
	for status, want := range map[uint32]string{0: "0", 255: "255", 1<<32 - 1: "-1"} {
		p := newTape(t)
		p.event(0, recording.Event{Type: recording.EventExit, Status: status})
		p.close()
		_, events := parseCast(t, castOf(t, p, CastOptions{Version: 3, Channel: p.channels()[0]}))
		if diff := cmp.Diff([]castEvent{{0, "x", want}}, events); diff != "" {
			t.Errorf("status %d: %s", status, diff)
		}
	}
}

func TestInterrupted(t *testing.T) {
	p := newTape(t)
	p.write(7, recording.StreamOut, "as far as it goes\xc3")
	ch := p.channels()[0]
	var cast, raw bytes.Buffer
	for _, err := range []error{Cast(&cast, p.reader(), CastOptions{Version: 2, Channel: ch}), Raw(&raw, p.reader(), 7, recording.StreamOut)} {
		if !errors.Is(err, recording.ErrInterrupted) {
			t.Errorf("%v", err)
		}
	}
	_, events := parseCast(t, cast.String())
	if joined(events, "o") != "as far as it goes�" || raw.String() != "as far as it goes\xc3" {
		t.Errorf("%v, %q", events, raw.String())
	}
}

func TestRefusals(t *testing.T) {
	p := shellTape(t)
	if err := Cast(&bytes.Buffer{}, p.reader(), CastOptions{Version: 1}); err == nil {
		t.Error("there is a version 1")
	}
	if err := Raw(&bytes.Buffer{}, p.reader(), 2, recording.StreamEvent); err == nil {
		t.Error("events are bytes")
	}
	full := errors.New("disk full")
	if err := Cast(failing{full}, p.reader(), CastOptions{Version: 2, Channel: p.channels()[0]}); !errors.Is(err, full) {
		t.Errorf("cast: %v", err)
	}
	if err := Raw(failing{full}, p.reader(), 2, recording.StreamOut); !errors.Is(err, full) {
		t.Errorf("raw: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestChoose(t *testing.T) {
	pty, exec, sftp := Channel{ID: 1, Pty: true, Cols: 9, Rows: 8, Type: "shell"}, Channel{ID: 2, Type: "exec", Command: "id"}, Channel{ID: 3, Type: "subsystem", Command: "sftp"}
	for name, c := range map[string]struct {
		list []Channel
		want string
	}{
		"the terminal":  {[]Channel{exec, pty, sftp}, "channel 1, terminal of 9×8, shell (0 bytes out, 0 err)"},
		"the only one":  {[]Channel{exec}, "channel 2, exec id (0 bytes out, 0 err)"},
		"none":          {nil, "the recording has none"},
		"two commands":  {[]Channel{exec, sftp}, "channel 2, exec id (0 bytes out, 0 err); channel 3"},
		"two terminals": {[]Channel{pty, pty}, "as the only one"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Choose(c.list)
			if text := fmt.Sprint(got, err); !strings.Contains(text, c.want) {
				t.Errorf("%s, want %s", text, c.want)
			}
		})
	}
	if _, err := Find([]Channel{pty, exec}, 7); !errors.Is(err, ErrNoChannel) {
		t.Errorf("%v", err)
	}
	if got, err := Find([]Channel{pty, exec}, 2); err != nil || got != exec {
		t.Errorf("%v, %v", got, err)
	}
}
