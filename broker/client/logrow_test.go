package client

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// publishedRows are lines as the broker sends them.
func publishedRows(tb testing.TB) [][]byte {
	tb.Helper()
	data, err := os.ReadFile("../../audit/testdata/log/log.ndjson")
	if err != nil {
		tb.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return lines[:len(lines)-1]
}

func TestDecodeRow(t *testing.T) {
	for _, line := range publishedRows(t) {
		got, ok := decodePlain(line)
		var want api.LogRow
		if err := json.Unmarshal(line, &want); err != nil || !ok {
			t.Fatalf("%v, %v: %s", ok, err, line)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	}
	for _, line := range []string{`{"idx":1,"body":"e30=","columns":{"a":"\u003c"}}`, `{ "idx":1,"body":"e30=","columns":{"a":"b"}}`, `{"idx":1,"columns":{"a":"b"},"body":"e30="}`, `{"idx":1,"body":"e30=","columns":{"a":"}\""}}`} {
		var want api.LogRow
		if err := json.Unmarshal([]byte(line), &want); err != nil {
			t.Fatal(err)
		}
		if got, err := decodeRow([]byte(line)); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %v %s", line, err, cmp.Diff(want, got))
		}
	}
}

// FuzzDecodePlain: the fast way reads nothing that the general way refuses, and reads the same.
func FuzzDecodePlain(f *testing.F) {
	rows := publishedRows(f)
	for _, line := range [][]byte{rows[0], rows[1], rows[5], []byte(`{"idx":-1,"body":"","salt":"","columns":{},"leaf":""}`), []byte(`{"idx":1,"body":"e30=","columns":{"a":"b","a":"c"}}`),
		[]byte(`{"idx":01,"body":"e3\n0=","columns":{"a":"}"}}`), []byte("{\"idx\":1,\"body\":\"e30=\",\"columns\":{\"\xff\":\"}\"}}"), []byte(`{"idx":1,"body":"e30","columns":{"a":"b",}}`)} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got, ok := decodePlain(line)
		if !ok {
			return
		}
		var want api.LogRow
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", line, d)
		}
	})
}

func BenchmarkDecodeRow(b *testing.B) {
	rows := publishedRows(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := decodeRow(rows[i%len(rows)]); err != nil {
			b.Fatal(err)
		}
	}
}
