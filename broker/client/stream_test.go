package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// impatience is how long a test waits in vain where silence is to be noticed. All that comes before the silence
// comes within it, however busy the machine is.
const impatience = 2 * time.Second

// until is the time to wait where a stream ends with a kind of error: what does not come from silence, such as a line
// that is too long, has time to come.
func until(want api.Kind) time.Duration {
	if want == api.KindUnreachable {
		return impatience
	}
	return 20 * time.Second
}

// ndjson answers with text, flushed, and then does what end says.
func ndjson(text string, end func(http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", typeNDJSON)
		_, _ = io.WriteString(w, text)
		w.(http.Flusher).Flush()
		if end != nil {
			end(w, r)
		}
	}
}

func abort(http.ResponseWriter, *http.Request)    { panic(http.ErrAbortHandler) }
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestStreamsThatEndBadly(t *testing.T) {
	const one = `{"idx":0,"body":"AA==","columns":{}}` + "\n"
	for name, tc := range map[string]struct {
		text string
		end  func(http.ResponseWriter, *http.Request)
		want api.Kind
		rows int
	}{
		"no last line":       {one, nil, api.KindUnreachable, 1},
		"nothing at all":     {"", nil, api.KindUnreachable, 0},
		"cut in a line":      {one + `{"idx":1`, nil, api.KindUnreachable, 1},
		"last line cut":      {one + `{"end":true}`, nil, api.KindUnreachable, 1},
		"aborted":            {one, abort, api.KindUnreachable, 1},
		"aborted at the end": {one + `{"end":true}`, abort, api.KindUnreachable, 1},
		"silence":            {one, hang, api.KindUnreachable, 1},
		"not JSON":           {one + "x\n" + endLine + "\n", nil, api.KindInternal, 1},
		"long line":          {one + strings.Repeat(" ", maxLine+1) + "\n", nil, api.KindInternal, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newBroker(t, ndjson(tc.text, tc.end)).client(t, func(cfg *Config) { cfg.Timeout = until(tc.want) })
			rows, err := collect(c.LogRows(context.Background(), 0, 2))
			if !api.IsKind(err, tc.want) || len(rows) != tc.rows {
				t.Errorf("%d rows, %v", len(rows), err)
			}
		})
	}
}

func TestLogRows(t *testing.T) {
	rows := []api.LogRow{{Index: 7, Body: []byte("a"), Salt: []byte("s"), Details: []byte("d"), Columns: map[string]string{"kind": "x"}}, {Index: 8, Body: []byte("b")}}
	var text bytes.Buffer
	for _, r := range rows {
		if err := json.NewEncoder(&text).Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	b := newBroker(t, ndjson(text.String()+endLine+"\n", nil))
	c := b.client(t, nil)
	got, err := collect(c.LogRows(context.Background(), 7, 9))
	if d := cmp.Diff(rows, got); err != nil || d != "" {
		t.Error(err, d)
	}
	if q := b.requests()[0].Query; q != "from=7&to=9" {
		t.Errorf("query %q", q)
	}
	for range c.LogRows(context.Background(), 7, 9) {
		break
	}
}

func TestRecordingThatIsCut(t *testing.T) {
	for name, end := range map[string]func(http.ResponseWriter, *http.Request){"aborted": abort, "silent": hang} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newBroker(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", typeBytes)
				_, _ = io.WriteString(w, "half")
				w.(http.Flusher).Flush()
				end(w, r)
			}).client(t, func(cfg *Config) { cfg.Timeout = impatience })
			body, err := c.Recording(context.Background(), RecordingRequest{ID: "ssh_1", Purpose: "verify"})
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(body)
			if !api.IsKind(err, api.KindUnreachable) || string(data) != "half" {
				t.Errorf("%q, %v", data, err)
			}
			if err := body.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

const trustLine = `{"type":"trust","trust":{"access_cas":["a"],"host_cas":[],"front_cas":[]}}` + "\n"

func TestFeed(t *testing.T) {
	kept := []byte("kept note")
	text := trustLine + `{"type":"heartbeat","lease_ms":30000,"checkpoint":"` + base64.StdEncoding.EncodeToString([]byte("newer")) + `"}` + "\n" +
		`{"type":"keys","keys":{"first":true,"last":true,"keys":[{"id":"key_1","fingerprint":"SHA256:x"}]}}` + "\n" +
		`{"type":"revoke","revocation":{"index":12,"iss":"i","sub":"s"}}` + "\n"
	header := make(chan string, 2)
	b := newBroker(t, func(w http.ResponseWriter, r *http.Request) {
		header <- r.Header.Get(api.HeaderCheckpoint)
		ndjson(text, hang)(w, r)
	})
	var notes []string
	c := b.client(t, func(cfg *Config) {
		cfg.OnCheckpoint = func(note []byte) error { notes = append(notes, string(note)); return nil }
	})
	enough := errors.New("enough")
	var got []string
	err := c.Feed(context.Background(), 11, kept, func(item api.FeedItem) error {
		got = append(got, item.Type)
		if item.Type == api.FeedRevoke {
			if d := cmp.Diff(&api.Revocation{Index: 12, Issuer: "i", Subject: "s"}, item.Revocation); d != "" {
				t.Error(d)
			}
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if d := cmp.Diff([]string{"trust", "heartbeat", "keys", "revoke"}, got); d != "" {
		t.Error(d)
	}
	if notes[len(notes)-1] != "newer" {
		t.Errorf("notes %q", notes)
	}
	if h := <-header; h != base64.StdEncoding.EncodeToString(kept) {
		t.Errorf("the broker was shown %q", h)
	}
	if q := b.requests()[0].Query; q != "after=11" {
		t.Errorf("query %q", q)
	}
}

func TestFeedThatFails(t *testing.T) {
	revoke := func(fields string) string { return `{"type":"revoke","revocation":{"index":1` + fields + `}}` + "\n" }
	trickle := func(w http.ResponseWriter, r *http.Request) { // bytes, but never a line
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
				_, _ = io.WriteString(w, " ")
				w.(http.Flusher).Flush()
			}
		}
	}
	for name, tc := range map[string]struct {
		text string
		end  func(http.ResponseWriter, *http.Request)
		want api.Kind
		seen int
	}{
		"silence":             {trustLine, hang, api.KindUnreachable, 1},
		"silence at once":     {"", hang, api.KindUnreachable, 0},
		"trickle":             {trustLine, trickle, api.KindUnreachable, 1},
		"end":                 {trustLine, nil, api.KindUnreachable, 1},
		"an announced end":    {trustLine + endLine + "\n", hang, api.KindInternal, 1},
		"broken":              {trustLine, abort, api.KindUnreachable, 1},
		"cut line":            {trustLine + `{"type":"hea`, nil, api.KindUnreachable, 1},
		"no trust first":      {`{"type":"heartbeat"}` + "\n", hang, api.KindInternal, 0},
		"trust without CAs":   {`{"type":"trust"}` + "\n", hang, api.KindInternal, 0},
		"unknown type":        {trustLine + `{"type":"revoke_host"}` + "\n", hang, api.KindInternal, 1},
		"not JSON":            {trustLine + "{\n", hang, api.KindInternal, 1},
		"revoke of nobody":    {trustLine + revoke(""), hang, api.KindInternal, 1},
		"revoke of half":      {trustLine + revoke(`,"iss":"i"`), hang, api.KindInternal, 1},
		"revoke of two":       {trustLine + revoke(`,"login_id":"ses_1","session_id":"ssh_1"`), hang, api.KindInternal, 1},
		"revoke without body": {trustLine + `{"type":"revoke"}` + "\n", hang, api.KindInternal, 1},
		"keys without a set":  {trustLine + `{"type":"keys"}` + "\n", hang, api.KindInternal, 1},
		"keys first":          {`{"type":"keys","keys":{"first":true,"last":true,"keys":[]}}` + "\n", hang, api.KindInternal, 0},
		"bad checkpoint":      {trustLine + `{"type":"heartbeat","checkpoint":"Zm9ya2Vk"}` + "\n", hang, api.KindInternal, 1},
		"long line":           {trustLine + strings.Repeat(" ", maxLine+1) + "\n", hang, api.KindInternal, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newBroker(t, ndjson(tc.text, tc.end)).client(t, func(cfg *Config) {
				cfg.FeedIdle = until(tc.want)
				cfg.OnCheckpoint = func(note []byte) error {
					if string(note) == "forked" {
						return errors.New("forked")
					}
					return nil
				}
			})
			seen := 0
			err := c.Feed(context.Background(), -1, nil, func(api.FeedItem) error { seen++; return nil })
			if !api.IsKind(err, tc.want) || seen != tc.seen {
				t.Errorf("%d items, %v", seen, err)
			}
		})
	}
}

// Neither the time that a handler takes nor the length of the feed ends it; heartbeats keep it alive.
func TestFeedOutlivesTimeouts(t *testing.T) {
	t.Parallel()
	const most = time.Second
	c := newBroker(t, func(w http.ResponseWriter, r *http.Request) {
		ndjson(trustLine, nil)(w, r)
		tick := time.NewTicker(most / 10)
		defer tick.Stop()
		for range 14 {
			<-tick.C
			_, _ = io.WriteString(w, `{"type":"heartbeat"}`+"\n")
			w.(http.Flusher).Flush()
		}
		_, _ = io.WriteString(w, `{"type":"revoke","revocation":{"session_id":"ssh_1"}}`+"\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}).client(t, func(cfg *Config) { cfg.Timeout, cfg.FeedIdle = most, most })
	enough := errors.New("enough")
	err := c.Feed(context.Background(), -1, nil, func(item api.FeedItem) error {
		switch item.Type {
		case api.FeedTrust: // a handler slower than the idle time
			<-time.After(most + most/10)
		case api.FeedRevoke:
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestFeedObeysItsContext(t *testing.T) {
	c := newBroker(t, ndjson(trustLine, hang)).client(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	err := c.Feed(ctx, -1, nil, func(api.FeedItem) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || api.IsKind(err, api.KindUnreachable) {
		t.Errorf("got %v", err)
	}
}

func FuzzReadLine(f *testing.F) {
	f.Add([]byte("a\nb\n"))
	f.Add([]byte("a"))
	f.Add([]byte(""))
	f.Add([]byte("\n\n\n"))
	f.Add(bytes.Repeat([]byte("x"), 70<<10))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), 16)
		var got []byte
		for {
			line, err := readLine(r)
			if err != nil {
				rest := data[len(got):]
				if len(rest) == 0 && err != io.EOF || len(rest) > 0 && err != io.ErrUnexpectedEOF || bytes.Contains(rest, []byte("\n")) {
					t.Fatalf("%v with %q left", err, rest)
				}
				return
			}
			if got = append(append(got, line...), '\n'); !bytes.HasPrefix(data, got) {
				t.Fatalf("read %q of %q", got, data)
			}
		}
	})
}

func FuzzFeedItem(f *testing.F) {
	f.Add([]byte(trustLine))
	f.Add([]byte(`{"type":"revoke","revocation":{"session_id":"ssh_1"}}`))
	f.Add([]byte(`{"type":"heartbeat","checkpoint":"AA=="}`))
	f.Add([]byte(`{"type":"keys","keys":{"first":true,"last":true,"keys":[{"id":"key_1","fingerprint":"SHA256:x"}]}}`))
	c := &Client{origin: "https://sega.example"}
	f.Fuzz(func(t *testing.T, line []byte) {
		handled := false
		err := c.feedItem(line, false, checkItem, func(item api.FeedItem) error {
			handled = true
			if item.Type == api.FeedRevoke && !oneSubject(*item.Revocation) || item.Type == api.FeedTrust && item.Trust == nil || item.Type == api.FeedKeys && item.Keys == nil {
				return fmt.Errorf("item %+v was handed on", item)
			}
			return nil
		})
		if (err == nil) != handled {
			t.Fatalf("handled %v, %v", handled, err)
		}
	})
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b[2Jb")
	f.Add("\xff\u202e\u0085")
	f.Fuzz(func(t *testing.T, s string) {
		once := printable(s)
		if strings.ContainsFunc(once, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x1b || r >= 0x80 && r < 0xa0 }) {
			t.Fatalf("%q", once)
		}
		if len(s) < maxText/4 && printable(once) != once {
			t.Fatalf("%q becomes %q", once, printable(once))
		}
	})
}
