package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/hinshun/vt10x"
	"github.com/muesli/cancelreader"

	"sega/audit/recording"
)

// reel is a recording in memory, written by a clock of its own.
type reel struct {
	t      testing.TB
	file   reelFile
	writer *recording.Writer
	at     time.Time
	ids    []age.Identity
}

type reelFile struct{ bytes.Buffer }

func (*reelFile) Sync() error { return nil }

func newReel(t testing.TB) *reel {
	t.Helper()
	r := &reel{t: t, at: noon}
	var to []age.Recipient
	for range 2 {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		r.ids, to = append(r.ids, id), append(to, id.Recipient())
	}
	var err error
	r.writer, err = recording.New(&r.file, recording.Config{SessionID: "ssh_0123456789abcdef", Recipients: to, Now: func() time.Time { return r.at }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *reel) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *reel) event(channel uint32, e recording.Event) { r.must(r.writer.WriteEvent(channel, e)) }
func (r *reel) write(channel uint32, data string) {
	r.must(r.writer.Write(channel, recording.StreamOut, []byte(data)))
}
func (r *reel) after(d time.Duration) { r.at = r.at.Add(d) }

func (r *reel) close() *reel {
	_, err := r.writer.Close("done")
	r.must(err)
	return r
}

func (r *reel) open() (*recording.Reader, error) {
	return recording.Open(bytes.NewReader(r.file.Bytes()), r.ids...)
}

// shellReel is a session with a terminal: a prompt at 0, files at 5 s, something nasty at 60 s, its
// end at 61 s.
func shellReel(t testing.TB) *reel {
	r := newReel(t)
	r.event(1, recording.Event{Type: recording.EventPty, Cols: 40, Rows: 6, Term: "xterm"})
	r.event(1, recording.Event{Type: recording.EventShell})
	r.write(1, "$ ")
	r.after(5 * time.Second)
	r.write(1, "ls\r\nred.txt blue.txt\r\n$ ")
	r.after(55 * time.Second)
	r.event(1, recording.Event{Type: recording.EventResize, Cols: 50, Rows: 6})
	r.write(1, "\x1b]0;owned\x07\x1b]52;c;cm0=\x07\x1b[c\x1bP+q\x1b\\\u009b6nRed alert\r\n$ ")
	r.after(time.Second)
	r.event(1, recording.Event{Type: recording.EventExec, Command: "x\x1b]0;owned\x07"})
	r.event(1, recording.Event{Type: recording.EventExit, Status: 3})
	return r.close()
}

// stage is a player with a reviewer's terminal.
type stage struct {
	*player
	t    *testing.T
	term vt10x.Terminal
	all  bytes.Buffer // everything that was written to the terminal
	keys chan key
	done chan error
}

const stageCols, stageRows = 60, 8

// onStage runs a player in a bubble, whose clock moves when everybody waits.
func onStage(t *testing.T, r *reel, play func(s *stage)) {
	t.Helper()
	s, err := readScore(t.Context(), r.open, nil)
	r.must(err)
	synctest.Test(t, func(t *testing.T) {
		g := &stage{t: t, term: vt10x.New(vt10x.WithSize(stageCols, stageRows)), keys: make(chan key), done: make(chan error, 1)}
		g.player = &player{open: r.open, out: io.MultiWriter(g.term, &g.all), size: func() (int, int) { return stageCols, stageRows }, score: s, speed: 1}
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := g.start(ctx, 0); err != nil {
			t.Fatal(err)
		}
		go func() { g.done <- g.run(ctx, g.keys) }()
		synctest.Wait()
		play(g)
		cancel(errCancelled)
		if err := <-g.done; err != nil && !errors.Is(err, errCancelled) {
			t.Errorf("the player ended with %v", err)
		}
	})
}

func (g *stage) press(keys ...key) {
	for _, k := range keys {
		g.keys <- k
	}
	synctest.Wait()
}

func (g *stage) wait(d time.Duration) {
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

// rows are what the reviewer sees, without blanks at the ends.
func (g *stage) rows() []string {
	rows := strings.Split(g.term.String(), "\n")
	for i := range rows {
		rows[i] = strings.TrimRight(rows[i], " \x00")
	}
	for len(rows) > 0 && rows[len(rows)-1] == "" {
		rows = rows[:len(rows)-1]
	}
	return rows
}

func (g *stage) sees(want ...string) {
	g.t.Helper()
	if diff := cmp.Diff(want, g.rows(), cmp.Transformer("some", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
		g.t.Errorf("-want +seen\n%s", diff)
	}
}

// says requires text in the player's line, which is the last row.
func (g *stage) says(want string) {
	g.t.Helper()
	rows := g.rows()
	if len(rows) != stageRows || !strings.Contains(rows[stageRows-1], want) {
		g.t.Errorf("the last row does not say %q:\n%s", want, strings.Join(rows, "\n"))
	}
}

var (
	atStart = []string{"$"}
	listed  = []string{"$ ls", "red.txt blue.txt", "$"}
	alerted = []string{"$ ls", "red.txt blue.txt", "$ 6nRed alert", "$"}
)

func TestPlayerPace(t *testing.T) {
	onStage(t, shellReel(t), func(g *stage) {
		g.sees(atStart...)
		g.wait(4900 * time.Millisecond)
		g.sees(atStart...)
		g.wait(200 * time.Millisecond)
		g.sees(listed...)
		g.press('+', '+') // four times as fast: 54.9 s are 13.725 s
		g.wait(13 * time.Second)
		g.sees(listed...)
		g.wait(800 * time.Millisecond)
		g.sees(alerted...)
	})
}

// TestPlayerPauses: time stands still, and of the player's line nothing stays on the screen.
func TestPlayerPauses(t *testing.T) {
	onStage(t, shellReel(t), func(g *stage) {
		g.wait(3 * time.Second)
		g.press(' ')
		g.says("paused 0:03/1:01 ×1")
		g.wait(time.Hour)
		g.says("paused 0:03/1:01 ×1")
		g.press(' ')
		g.sees(atStart...)
		g.wait(1900 * time.Millisecond)
		g.sees(atStart...)
		g.wait(200 * time.Millisecond)
		g.sees(listed...)
	})
}

func TestPlayerSkipsIdle(t *testing.T) {
	onStage(t, shellReel(t), func(g *stage) {
		g.press('i')
		g.wait(1900 * time.Millisecond)
		g.sees(atStart...)
		g.wait(200 * time.Millisecond)
		g.sees(listed...)
		g.wait(time.Second)
		g.press('i') // off again, in the middle of a pause that was to be skipped: 1 s of it is left
		g.wait(800 * time.Millisecond)
		g.sees(listed...)
		g.wait(300 * time.Millisecond)
		g.sees(alerted...)
	})
}

func TestPlayerSeeks(t *testing.T) {
	onStage(t, shellReel(t), func(g *stage) {
		g.press(keyRight)
		g.sees(listed...)
		g.press(']', ']', ']', ']', ']')
		g.sees(alerted...)
		g.press('[', keyLeft, '[', keyLeft, '[')
		g.sees(listed...)
		g.press('[', '[', '[')
		g.sees(atStart...)
		g.wait(4900 * time.Millisecond)
		g.sees(atStart...)
		g.wait(200 * time.Millisecond)
		g.sees(listed...)
	})
}

func TestPlayerSteps(t *testing.T) {
	onStage(t, shellReel(t), func(g *stage) {
		g.press('.')
		g.says("paused 0:05/1:01")
		if diff := cmp.Diff(listed, g.rows()[:3]); diff != "" {
			t.Error(diff)
		}
		g.press('.')
		g.says("paused 1:00/1:01")
		g.press('.', '.', '.')
		g.says("end 1:01/1:01")
		g.press(' ', '.', keyRight)
		g.says("end 1:01/1:01")
		g.press('[')
		g.says("paused 0:51/1:01")
	})
}

func TestPlayerMarkers(t *testing.T) {
	onStage(t, shellReel(t), func(g *stage) {
		g.press(' ', 'm')
		g.says("paused 1:00/1:01 ×1  resize 50x6")
		g.press('m')
		g.says("exec x]0;owned")
		g.press('m')
		g.says("no further marker")
		g.press('M')
		g.says("resize 50x6")
		g.press('M')
		g.says("paused 0:00/1:01 ×1  shell")
		g.press(' ')
		g.sees(atStart...)
	})
}

func TestPlayerSearches(t *testing.T) {
	onStage(t, shellReel(t), func(g *stage) {
		g.press('/', 'R', 'x', keyDelete, 'e', 'd')
		g.says("/Red")
		g.press(keyEnter)
		g.says("hit 1 of 2: red.txt blue.txt")
		g.press('n')
		g.says("hit 2 of 2: $ 6nRed alert")
		g.press('n')
		g.says("no further hit")
		g.press('N')
		g.says("hit 1 of 2")
		g.press('/', 'q', keyEscape, '/', 'n', 'o', 't', keyEnter)
		g.says(`nothing on the screen holds "not"`)
		g.press('n')
		g.says("no further hit")
		g.press(' ')
	})
}

func TestPlayerEnds(t *testing.T) {
	for name, k := range map[string]key{"q": 'q', "Ctrl-C": keyBreak} {
		t.Run(name, func(t *testing.T) {
			onStage(t, shellReel(t), func(g *stage) {
				g.press(k)
				g.done <- <-g.done // run has returned although nobody cancelled it
			})
		})
	}
	onStage(t, shellReel(t), func(g *stage) { close(g.keys); g.done <- <-g.done })
	onStage(t, shellReel(t), func(g *stage) {
		g.wait(2 * time.Minute)
		g.says("end 1:01/1:01")
		g.wait(time.Hour)
		g.says("end")
	})
}

func TestPlayerOfAnInterruptedRecording(t *testing.T) {
	r := newReel(t)
	r.event(0, recording.Event{Type: recording.EventExec, Command: "printf 'a\nb\n'"})
	r.write(0, "a\nb\n")
	onStage(t, r, func(g *stage) {
		g.wait(time.Second)
		g.says("ends here without an end")
		if diff := cmp.Diff([]string{"a", "b"}, g.rows()[:2]); diff != "" {
			t.Error(diff) // a raw terminal starts no line at its left of itself
		}
	})
}

// TestPlayerIsHarmless: whatever the reviewer does, nothing of what was recorded reaches his terminal
// but what shows.
func TestPlayerIsHarmless(t *testing.T) {
	onStage(t, shellReel(t), func(g *stage) {
		g.press(' ', 'm', 'm', 'm', 'M', '/', 'r', 'e', 'd', keyEnter, 'n', '.', ' ', '[', 'm')
		g.wait(time.Hour)
		g.press('/', 0x9b, '6', keyEnter)
		all := g.all.String()
		for _, bad := range []string{"\x1b]", "\x1bP", "\x1b[c", "\x1b_", "\x07\x07", "owned\x07", "\u009b", "\x9b6n"} {
			if strings.Contains(all, bad) {
				t.Errorf("%q reached the terminal", bad)
			}
		}
		if g.term.Title() != "" {
			t.Errorf("title %q", g.term.Title())
		}
	})
}

func TestParseKeys(t *testing.T) {
	for in, want := range map[string][]key{
		"q":                        {'q'},
		"\x1b[C\x1b[D\x1bOC\x1bOD": {keyRight, keyLeft, keyRight, keyLeft},
		"\x1b":                     {keyEscape},
		"\x1bq":                    {keyEscape, 'q'},
		"\x1b[1;5Cx\x1b[200~":      {keyOther, 'x', keyOther},
		"\x1b[":                    {keyOther},
		"\x03\r\n\x7f\x08":         {keyBreak, keyEnter, keyEnter, keyDelete, keyDelete},
		"ü€":                       {'ü', '€'},
		"\xff":                     {keyOther},
	} {
		if diff := cmp.Diff(want, parseKeys([]byte(in))); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("q\x1b[C\x1b[1;5D\xff\x1b"))
	f.Add([]byte("\x1bO\x1b[[[["))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(parseKeys(b)); n > len(b) || n == 0 && len(b) > 0 {
			t.Errorf("%d keys of %d bytes", n, len(b))
		}
	})
}

// TestPlayerLeavesWhileBusy: Ctrl-C ends a search or a jump that goes on for long, for the keyboard
// ends the context at once.
func TestPlayerLeavesWhileBusy(t *testing.T) {
	r := newReel(t)
	r.event(1, recording.Event{Type: recording.EventPty, Cols: 200, Rows: 1000})
	for range 100 {
		r.write(1, "some text\r\n")
	}
	r.close()
	for name, do := range map[string]func(ctx context.Context, p *player) error{
		"search": func(ctx context.Context, p *player) error { return p.search(ctx, "text") },
		"jump":   func(ctx context.Context, p *player) error { return p.seek(ctx, time.Hour) },
		"score":  func(ctx context.Context, p *player) error { _, err := readScore(ctx, r.open, nil); return err },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, quit := context.WithCancelCause(t.Context())
			reads := 0
			p := &player{out: io.Discard, size: func() (int, int) { return stageCols, stageRows }, speed: 1, score: score{total: time.Hour}, open: func() (*recording.Reader, error) {
				reads++
				quit(errQuit) // while it is at work
				return r.open()
			}}
			if name == "score" {
				quit(errQuit)
			}
			if err := do(ctx, p); !errors.Is(err, errQuit) || reads > 1 {
				t.Errorf("%v after %d readings", err, reads)
			}
			if err := left(ctx, errQuit); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKeyboardInterrupts: Ctrl-C is heard although nobody takes the keys before it.
func TestKeyboardInterrupts(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	reader, err := cancelreader.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{})
	k := &keyboard{keys: make(chan key, keysAhead), in: reader, interrupt: sync.OnceFunc(func() { close(heard) }), done: make(chan struct{})}
	go k.read(t.Context())
	if _, err := io.WriteString(out, strings.Repeat("/", 2*keysAhead)+"\x03"); err != nil {
		t.Fatal(err)
	}
	<-heard
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	<-k.done
}

// TestFindTextIsBounded: what is kept of hits has an end, and says so.
func TestFindTextIsBounded(t *testing.T) {
	r := newReel(t)
	r.event(1, recording.Event{Type: recording.EventExec, Command: "x"})
	r.write(1, strings.Repeat("hit\n", maxMarks+10))
	r.close()
	hits, err := findText(t.Context(), r.open, nil, "HIT")
	if err != nil || len(hits.lines) != maxMarks || !hits.cut || hits.more() == "" {
		t.Errorf("%d hits, %v, %v", len(hits.lines), hits.cut, err)
	}
}

// TestPlayerSaysWhatKeysDid: while it plays a bell says that a key was heard, and while it is paused a word.
func TestPlayerSaysWhatKeysDid(t *testing.T) {
	onStage(t, shellReel(t), func(g *stage) {
		for _, k := range []key{'+', '-', 'i'} {
			before := strings.Count(g.all.String(), "\a")
			if g.press(k); strings.Count(g.all.String(), "\a") != before+1 {
				t.Errorf("%c is not heard", k)
			}
		}
		g.press(' ', '+')
		g.says("speed ×2")
		g.press('i')
		g.says("pauses are kept")
	})
}
