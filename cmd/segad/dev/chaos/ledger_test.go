//go:build linux

package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"sega/audit"
	"sega/sshca"
)

var errNoCert = errors.New("the answer is a key without a certificate")

// ledger is what clients have received, each thing by a name that an event of it must have as well.
type ledger struct {
	mu       sync.Mutex
	received map[string]int
}

func newLedger() *ledger { return &ledger{received: map[string]int{}} }

// got notes an answer; it is called before the client makes any use of it.
func (l *ledger) got(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.received[name]++
}

func (l *ledger) has(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.received[name] > 0
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, times := range l.received {
		n += times
	}
	return n
}

// Names of what is handed out.
func nameCredentials(accessKeyID string) string   { return "aws.assume " + accessKeyID }
func nameCert(kind, serial, digest string) string { return kind + " " + serial + " " + digest }
func nameSession(kind, id string) string          { return kind + " " + id }
func nameHop(session, serial, digest string) string {
	return "ssh.hop " + session + " " + serial + " " + digest
}
func nameProxied(accessSerial sshca.Serial) string { return "proxied " + accessSerial.String() }
func certName(kind string, id identity) string {
	return nameCert(kind, sshca.Serial(id.cert.Serial).String(), sshca.Digest(id.cert))
}

// named is the name of what an event of success says was handed out, "" for others.
func named(e audit.Event) (string, error) {
	var d struct {
		AccessKeyID string `json:"access_key_id"`
		Serial      string `json:"serial"`
		Digest      string `json:"certificate_sha256"`
	}
	if len(e.Details) > 0 {
		if err := json.Unmarshal(e.Details, &d); err != nil {
			return "", err
		}
	}
	if e.Outcome != audit.Success {
		return "", nil
	}
	switch e.Kind {
	case "aws.assume":
		return nameCredentials(d.AccessKeyID), nil
	case "ssh.cert", "ssh.front":
		return nameCert(e.Kind, d.Serial, d.Digest), nil
	case "ssh.hop":
		return nameHop(e.SessionID, d.Serial, d.Digest), nil
	case "user.login", "node.session":
		return nameSession(e.Kind, e.LoginID), nil
	case "session.start", "session.end":
		return nameSession(e.Kind, e.SessionID), nil
	}
	return "", nil
}

// book is the store as it was read so far.
type book struct {
	next     int64
	names    map[string]int
	intents  map[string]int // action → its outcomes so far
	unknowns int
	hops     map[string]bool // access serials that a hop was granted for
	events   []audit.Event
}

func newBook() *book {
	return &book{names: map[string]int{}, intents: map[string]int{}, hops: map[string]bool{}}
}

// page is what one reading has found.
type page struct {
	unknowns int      // intents that a dead broker had left open
	silent   []string // credentials and access certificates that the log has and nobody received
}

// read takes up what was committed since the last reading.
func (b *book) read(from source, l *ledger) (p page, err error) {
	db, err := from.open()
	if err != nil {
		return p, err
	}
	defer db.Close()
	rows, err := db.Query(fmt.Sprintf(`SELECT idx, body, coalesce(details, '') FROM events WHERE idx >= %d ORDER BY idx`, b.next))
	if err != nil {
		return p, err
	}
	defer rows.Close()
	for rows.Next() {
		var idx int64
		var body, details []byte
		if err := rows.Scan(&idx, &body, &details); err != nil {
			return p, err
		}
		if idx != b.next {
			return p, fmt.Errorf("event %d follows event %d", idx, b.next-1)
		}
		b.next++
		if err := b.take(body, details, l, &p); err != nil {
			return p, fmt.Errorf("event %d: %w", idx, err)
		}
	}
	return p, rows.Err()
}

func (b *book) take(body, details []byte, l *ledger, p *page) error {
	e, err := audit.Parse(body)
	if err != nil {
		return err
	}
	e.Details = details
	b.events = append(b.events, e)
	switch _, open := b.intents[e.Action]; {
	case e.Outcome == audit.Intent:
		b.intents[e.Action] = 0
	case open:
		b.intents[e.Action]++
	}
	if e.Outcome == audit.Unknown && e.Kind == "aws.assume" {
		b.unknowns++
		p.unknowns++
	}
	name, err := named(e)
	if err != nil || name == "" {
		return err
	}
	b.names[name]++
	if e.Kind == "ssh.hop" {
		var d struct {
			AccessSerial string `json:"access_serial"`
		}
		if err := json.Unmarshal(e.Details, &d); err != nil {
			return err
		}
		b.hops[d.AccessSerial] = true
	}
	if (e.Kind == "aws.assume" || e.Kind == "ssh.cert") && !l.has(name) {
		p.silent = append(p.silent, name)
	}
	return nil
}

// check holds what was received against the book (I1), and the book against itself: nothing is
// handed out twice, no intent has two outcomes (R3).
func (b *book) check(t testing.TB, l *ledger) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.received {
		if serial, ok := strings.CutPrefix(name, "proxied "); ok {
			if !b.hops[serial] {
				t.Errorf("a session ran with access certificate %s, and no ssh.hop event tells of it", serial)
			}
		} else if b.names[name] == 0 {
			t.Errorf("a client received %q, and no event tells of it", name)
		}
	}
	for name, n := range b.names {
		if n > 1 {
			t.Errorf("%q was handed out %d times", name, n)
		}
	}
	for action, outcomes := range b.intents {
		if outcomes > 1 {
			t.Errorf("the intent %s has %d outcomes", action, outcomes)
		}
	}
}

// settled fails where an intent has no outcome: for a log in which nothing is under way.
func (b *book) settled(t testing.TB) {
	t.Helper()
	for action, outcomes := range b.intents {
		if outcomes != 1 {
			t.Errorf("the intent %s has %d outcomes, want 1", action, outcomes)
		}
	}
}

// sessionOf returns the ID of the session that was opened first with an access certificate.
func (b *book) sessionOf(id identity) string {
	want := sshca.Serial(id.cert.Serial).String()
	for _, e := range b.of("session.start") {
		var d struct {
			AccessSerial string `json:"access_serial"`
		}
		if e.Outcome == audit.Success && json.Unmarshal(e.Details, &d) == nil && d.AccessSerial == want {
			return e.SessionID
		}
	}
	return ""
}

// end returns the session.end of a session.
func (b *book) end(session string) (audit.Event, error) {
	for _, e := range b.of("session.end") {
		if e.SessionID == session && session != "" {
			return e, nil
		}
	}
	return audit.Event{}, fmt.Errorf("no session.end of %q", session)
}

// of returns the events of a kind.
func (b *book) of(kind string) (out []audit.Event) {
	for _, e := range b.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}
