package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const canary = "CANARY-5f1c"

type holder struct {
	Exported Secret
	hidden   Secret
	Pointer  *Secret
	Slice    []Secret
	Map      map[string]Secret
	Any      any
}

func newHolder() holder {
	s := FromString(canary)
	return holder{Exported: s, hidden: s, Pointer: &s, Slice: []Secret{s}, Map: map[string]Secret{"k": s}, Any: s}
}

// leaks also looks for the bytes in the forms that %x, %d and %v of a byte slice give.
func leaks(out string) bool {
	forms := []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), strings.Trim(fmt.Sprint([]byte(canary)), "[]")}
	for _, f := range forms {
		if strings.Contains(out, f) {
			return true
		}
	}
	return false
}

func TestPrintingNeverLeaks(t *testing.T) {
	h := newHolder()
	s := FromString(canary)
	values := map[string]any{"value": s, "pointer": &s, "holder": h, "holder pointer": &h, "slice": []Secret{s}, "map": map[string]Secret{"a": s}, "key": map[any]int{"x": 1}, "error": fmt.Errorf("x: %w", errors.New(fmt.Sprint(s)))}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%t", "%p", "%T", "%08.3f"} {
			if out := fmt.Sprintf(verb, v); leaks(out) {
				t.Errorf("%s with %s leaks: %s", name, verb, out)
			}
		}
	}
}

func TestLogsAndMarshallersNeverLeak(t *testing.T) {
	h := newHolder()
	var buf bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&buf, nil), slog.NewTextHandler(&buf, nil)} {
		l := slog.New(handler)
		l.Info("m", "s", h.Exported, "p", h.Pointer, "h", h, "hp", &h, "g", slog.GroupValue(slog.Any("s", h.Exported)))
	}
	j, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	buf.Write(j)
	if leaks(buf.String()) {
		t.Errorf("leaks: %s", buf.String())
	}
	if !strings.Contains(buf.String(), Redacted) {
		t.Error("nothing was redacted: the test looks at the wrong thing")
	}
}

func TestRevealEqualWipe(t *testing.T) {
	var s Secret
	if !s.Empty() || s.Reveal() != nil {
		t.Error("the zero value is not empty")
	}
	if err := json.Unmarshal([]byte(`"abc"`), &s); err != nil || string(s.Reveal()) != "abc" {
		t.Fatalf("unmarshal: %v %q", err, s.Reveal())
	}
	if !s.Equal(FromString("abc")) || s.Equal(FromString("abd")) {
		t.Error("Equal is wrong")
	}
	c := s
	s.Wipe()
	if !c.Empty() {
		t.Error("a copy survived Wipe")
	}
	if err := json.Unmarshal([]byte(`{"x":"`+canary+`"}`), &s); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("bad error: %v", err)
	}
}
