package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"sega/broker/api"
)

// decodeRow reads a line of RouteLog. A whole log has millions of them, all written by one encoder:
// what has the form that it gives is read at a quarter of the cost of encoding/json, which reads the rest.
func decodeRow(line []byte) (api.LogRow, error) {
	if row, ok := decodePlain(line); ok {
		return row, nil
	}
	var row api.LogRow
	err := json.Unmarshal(line, &row)
	return row, err
}

// decodePlain reads the usual line; ok is false for every other, and says nothing about it.
func decodePlain(line []byte) (row api.LogRow, ok bool) {
	s := rowScanner{rest: line, ok: true}
	s.literal(`{"idx":`)
	row.Index = s.number()
	s.literal(`,"body":"`)
	row.Body = s.base64()
	if s.optional(`,"salt":"`) {
		row.Salt = s.base64()
	}
	if s.optional(`,"details":"`) {
		row.Details = s.base64()
	}
	s.literal(`,"columns":{`)
	row.Columns = s.object()
	if s.optional(`,"leaf":"`) {
		row.Leaf = s.base64()
	}
	s.literal(`}`)
	return row, s.ok && len(s.rest) == 0
}

// rowScanner takes what must stand at the beginning of the rest; once it does not, nothing is taken any more.
type rowScanner struct {
	rest []byte
	ok   bool
}

func (s *rowScanner) optional(want string) bool {
	if !s.ok || len(s.rest) < len(want) || string(s.rest[:len(want)]) != want {
		return false
	}
	s.rest = s.rest[len(want):]
	return true
}

func (s *rowScanner) literal(want string) {
	if !s.optional(want) {
		s.ok = false
	}
}

// number takes a number as Go writes it.
func (s *rowScanner) number() int64 {
	end := bytes.IndexByte(s.rest, ',')
	if !s.ok || end < 0 {
		s.ok = false
		return 0
	}
	text := string(s.rest[:end])
	n, err := strconv.ParseInt(text, 10, 64)
	s.ok = err == nil && strconv.FormatInt(n, 10) == text
	s.rest = s.rest[end:]
	return n
}

// text takes the rest of a JSON string that stands for itself, and the quote behind it.
func (s *rowScanner) text() []byte {
	end := bytes.IndexByte(s.rest, '"')
	if !s.ok || end < 0 || !plainText(s.rest[:end]) {
		s.ok = false
		return nil
	}
	text := s.rest[:end]
	s.rest = s.rest[end+1:]
	return text
}

func plainText(text []byte) bool {
	ascii := true
	for _, c := range text {
		if c < ' ' || c == '\\' {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.Valid(text)
}

func (s *rowScanner) base64() []byte {
	text := s.text()
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	s.ok = s.ok && err == nil
	return out[:n]
}

// object takes the rest of an object of strings; its values share one piece of memory.
func (s *rowScanner) object() map[string]string {
	end := bytes.Index(s.rest, []byte(`"}`))
	if !s.ok || end < 0 {
		s.ok = false
		return nil
	}
	whole := rowScanner{rest: s.rest[:end+1], ok: true}
	shared := string(whole.rest)
	out := make(map[string]string, 15)
	take := func() string {
		whole.literal(`"`)
		from := len(shared) - len(whole.rest)
		return shared[from : from+len(whole.text())]
	}
	for whole.ok {
		name := take()
		whole.literal(`:`)
		value := take()
		_, twice := out[name]
		whole.ok = whole.ok && !twice
		out[name] = value
		if len(whole.rest) == 0 {
			break
		}
		whole.literal(`,`)
	}
	s.ok = whole.ok
	s.rest = s.rest[end+2:]
	return out
}
