package export

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"sega/audit/recording"
)

var noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// tape writes a recording in memory by a clock of its own.
type tape struct {
	t        testing.TB
	file     spool
	writer   *recording.Writer
	at       time.Time
	reviewer age.Identity
	typist   age.Identity // opens what was typed, and nothing else
}

// named is a recipient and an identity that cost no curve arithmetic: these tests open recordings
// by the ten thousand. Keys of people are tested with the format.
type named string

func (n named) String() string { return string(n) }

func (n named) Wrap(key []byte) ([]*age.Stanza, error) {
	return []*age.Stanza{{Type: "named", Args: []string{string(n)}, Body: key}}, nil
}

func (n named) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if len(s.Args) == 1 && s.Args[0] == string(n) {
			return s.Body, nil
		}
	}
	return nil, age.ErrIncorrectIdentity
}

type spool struct{ bytes.Buffer }

func (*spool) Sync() error { return nil }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newTape(t testing.TB) *tape {
	t.Helper()
	p := &tape{t: t, at: noon}
	p.reviewer, p.typist = named("reviewer"), named("typist")
	var err error
	p.writer, err = recording.New(&p.file, recording.Config{SessionID: "ssh_0123456789abcdef", Now: func() time.Time { return p.at },
		Recipients: []age.Recipient{named("reviewer"), named("recovery")}, InputRecipients: []age.Recipient{named("typist"), named("recovery")}})
	must(t, err)
	return p
}

func (p *tape) event(channel uint32, e recording.Event) {
	p.t.Helper()
	must(p.t, p.writer.WriteEvent(channel, e))
}

func (p *tape) write(channel uint32, s recording.Stream, data string) {
	p.t.Helper()
	must(p.t, p.writer.Write(channel, s, []byte(data)))
}

func (p *tape) after(d time.Duration) { p.at = p.at.Add(d) }

func (p *tape) close() {
	p.t.Helper()
	_, err := p.writer.Close("done")
	must(p.t, err)
}

func (p *tape) reader(ids ...age.Identity) *recording.Reader {
	p.t.Helper()
	if ids == nil {
		ids = []age.Identity{p.reviewer}
	}
	r, err := recording.Open(bytes.NewReader(p.file.Bytes()), ids...)
	must(p.t, err)
	return r
}

func (p *tape) channels() []Channel {
	p.t.Helper()
	list, err := Channels(p.reader())
	must(p.t, err)
	return list
}

// castEvent is a line of an asciicast, as a reader of its own takes it apart.
type castEvent struct {
	Time float64
	Code string
	Data string
}

func parseCast(t testing.TB, text string) (map[string]any, []castEvent) {
	t.Helper()
	if !strings.HasSuffix(text, "\n") {
		t.Fatalf("the last line is torn: %q", text)
	}
	d := json.NewDecoder(strings.NewReader(text))
	var header map[string]any
	must(t, d.Decode(&header))
	var events []castEvent
	for {
		var line []any
		err := d.Decode(&line)
		if err == io.EOF {
			return header, events
		}
		must(t, err)
		if len(line) != 3 {
			t.Fatalf("an event of %d items", len(line))
		}
		events = append(events, castEvent{line[0].(float64), line[1].(string), line[2].(string)})
	}
}

func joined(events []castEvent, code string) string {
	var b strings.Builder
	for _, e := range events {
		if e.Code == code {
			b.WriteString(e.Data)
		}
	}
	return b.String()
}
