package export

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"sega/audit/recording"
)

const (
	streams    = 10_000
	perTape    = 25 // streams of one recording, a channel each
	mostPieces = 8
)

// TestRandomStreams: 10,000 random streams with characters of one to four bytes, broken ones
// among them, are cut at random places and recorded. Raw gives back every byte; the output of both
// casts is what decoding the whole at once gives.
func TestRandomStreams(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range streams / perTape {
		p := newTape(t)
		want := make([][]byte, perTape)
		for ch := range want {
			p.event(uint32(ch), recording.Event{Type: recording.EventPty, Cols: 80, Rows: 24})
			want[ch] = randomStream(random)
		}
		writeCut(p, random, want)
		p.close()
		for ch, stream := range want {
			checkStream(t, p, Channel{ID: uint32(ch), Pty: true}, stream, 2+ch%2)
		}
	}
}

// writeCut records all streams side by side, each in random pieces.
func writeCut(p *tape, random *rand.Rand, all [][]byte) {
	rest := make([][]byte, len(all))
	copy(rest, all)
	for range mostPieces {
		for ch := range rest {
			n := random.IntN(len(rest[ch]) + 1)
			p.write(uint32(ch), recording.StreamOut, string(rest[ch][:n]))
			rest[ch] = rest[ch][n:]
		}
	}
	for ch := range rest {
		p.write(uint32(ch), recording.StreamOut, string(rest[ch]))
	}
}

func checkStream(t *testing.T, p *tape, ch Channel, want []byte, version int) {
	t.Helper()
	var raw, cast bytes.Buffer
	must(t, Raw(&raw, p.reader(), ch.ID, recording.StreamOut))
	if !bytes.Equal(raw.Bytes(), want) {
		t.Fatalf("raw %q, want %q", raw.Bytes(), want)
	}
	must(t, Cast(&cast, p.reader(), CastOptions{Version: version, Channel: ch, Unfiltered: true}))
	_, events := parseCast(t, cast.String())
	if got := joined(events, "o"); got != string([]rune(string(want))) {
		t.Fatalf("cast of version %d: %q, want %q", version, got, string([]rune(string(want))))
	}
	cast.Reset()
	must(t, Cast(&cast, p.reader(), CastOptions{Version: version, Channel: ch}))
	if _, events = parseCast(t, cast.String()); !shownOnly.MatchString(joined(events, "o")) {
		t.Fatalf("cast of version %d: %q comes through", version, joined(events, "o"))
	}
}

func randomStream(random *rand.Rand) []byte {
	var b []byte
	for range random.IntN(40) {
		switch random.IntN(8) {
		case 0:
			b = append(b, byte(random.IntN(256)))
		case 1:
			whole := utf8.AppendRune(nil, rune(0x10000+random.IntN(0x1000)))
			b = append(b, whole[:1+random.IntN(3)]...)
		case 2:
			b = utf8.AppendRune(b, rune(0x1f600+random.IntN(64)))
		case 3:
			b = utf8.AppendRune(b, rune(0x4e00+random.IntN(512)))
		case 4:
			b = utf8.AppendRune(b, rune(0xa0+random.IntN(512)))
		default:
			b = append(b, byte(random.IntN(128)))
		}
	}
	return b
}

// FuzzDecoder: wherever a stream is cut, its text is that of the whole.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("gr\xc3\xbc\xc3\x9fe \xe2\x82\xac \xf0\x9f\x98\x80"), uint(3), uint(7))
	f.Add([]byte("\xe2\x82\xff\xc3"), uint(1), uint(1))
	f.Add([]byte("\xf0\x9f\x98"), uint(2), uint(0))
	f.Fuzz(func(t *testing.T, b []byte, first, second uint) {
		x := first % uint(len(b)+1)
		y := x + second%uint(len(b)-int(x)+1)
		var d decoder
		got := d.add(b[:x]) + d.add(b[x:y]) + d.add(b[y:]) + d.rest()
		if want := string([]rune(string(b))); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// FuzzCast: whatever a host sends and a client asks for, both casts are well formed and carry it.
func FuzzCast(f *testing.F) {
	f.Add([]byte("a\x1b[1mb\xff"), "id; \x1b]0;x\x07", uint32(80), uint32(0))
	f.Add([]byte("\"],[1,\"o\""), "\u2028\n[0,\"x\"", uint32(1<<31), uint32(1))
	f.Fuzz(func(t *testing.T, data []byte, command string, cols, rows uint32) {
		p := newTape(t)
		p.event(0, recording.Event{Type: recording.EventPty, Cols: cols, Rows: rows, Term: command})
		p.event(0, recording.Event{Type: recording.EventExec, Command: command})
		p.write(0, recording.StreamOut, string(data))
		p.event(0, recording.Event{Type: recording.EventResize, Cols: cols, Rows: rows})
		p.close()
		for version := 2; version <= 3; version++ {
			checkStream(t, p, p.channels()[0], data, version)
			var b bytes.Buffer
			must(t, Cast(&b, p.reader(), CastOptions{Version: version, Channel: p.channels()[0]}))
			if lines := bytes.Count(b.Bytes(), []byte("\n")); lines > 5 {
				t.Errorf("%d lines:\n%s", lines, &b)
			}
		}
	})
}
