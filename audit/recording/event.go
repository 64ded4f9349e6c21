package recording

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// Types of events.
const (
	EventOpen       = "open"
	EventPty        = "pty"
	EventResize     = "resize"
	EventEnv        = "env"
	EventShell      = "shell"
	EventExec       = "exec"
	EventSubsystem  = "subsystem"
	EventSignal     = "signal"
	EventExit       = "exit"
	EventExitSignal = "exit-signal"
	EventEOF        = "eof"
	EventClose      = "close"
	EventRefuse     = "refuse"
	EventListen     = "listen" // the host listens for the person, or no more
	EventLend       = "lend"   // the host may use the person's agent or display
	EventOpaque     = "opaque" // what follows is encrypted by others: it has its bytes here, and no meaning
)

// Event is what happened on a channel besides its bytes. Fields that say nothing are left out.
//
// A string that is not UTF-8, or that has control characters which JSON would blow up, goes into
// the JSON's object "raw" as base64 under its field's name, so that no byte is lost.
type Event struct {
	Type    string `json:"type"`
	Cols    uint32 `json:"cols,omitempty"`
	Rows    uint32 `json:"rows,omitempty"`
	Term    string `json:"term,omitempty"`
	Name    string `json:"name,omitempty"`
	Value   string `json:"value,omitempty"`
	Command string `json:"command,omitempty"`
	Signal  string `json:"signal,omitempty"`
	Status  uint32 `json:"status,omitempty"` // where absent, 0
	Reason  string `json:"reason,omitempty"`
	Origin  string `json:"origin,omitempty"` // who connected to a forward
}

// IsForward reports whether e opens a channel of a forward. What such a channel carries was on nobody's
// screen.
func (e Event) IsForward() bool { return e.Type == EventOpen && e.Name != "session" && e.Name != "" }

// wireEvent is an Event as JSON: the fields of Event, and raw for what is no text.
type wireEvent struct {
	plainEvent
	Raw map[string][]byte `json:"raw,omitempty"`
}

type plainEvent Event

// texts lists the strings that other people choose, by their name in the JSON.
func (e *Event) texts() map[string]*string {
	return map[string]*string{
		"term": &e.Term, "name": &e.Name, "value": &e.Value,
		"command": &e.Command, "signal": &e.Signal, "reason": &e.Reason, "origin": &e.Origin,
	}
}

// MarshalJSON implements json.Marshaler without loss of bytes.
func (e Event) MarshalJSON() ([]byte, error) {
	raw := map[string][]byte{}
	for name, text := range e.texts() {
		if !plainText(*text) {
			raw[name] = []byte(*text)
			*text = ""
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(wireEvent{plainEvent(e), raw}); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *Event) UnmarshalJSON(data []byte) error {
	var w wireEvent
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*e = Event(w.plainEvent)
	texts := e.texts()
	for name, b := range w.Raw {
		text, ok := texts[name]
		if !ok {
			return errors.New("raw names an unknown field")
		}
		*text = string(b)
	}
	return nil
}

// plainText reports whether JSON holds s without loss and at twice its length at most.
func plainText(s string) bool {
	for _, r := range s {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' {
			return false
		}
	}
	return utf8.ValidString(s)
}
