package broker

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// tail is a stream that follows, read line by line.
type tail struct {
	t     *testing.T
	lines chan string // closed at the stream's end
}

// follow opens a stream over a real connection, for a recorder has no reader while it is written to.
func (p caller) tail(t *testing.T, q string, more ...string) *tail {
	t.Helper()
	srv := httptest.NewServer(p.w.s)
	t.Cleanup(srv.Close)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r := p.request("GET", eventsPath(q, append(more, "follow", "1")...), nil)
	out, err := http.NewRequestWithContext(ctx, "GET", srv.URL+r.URL.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	out.Header = r.Header
	resp, err := srv.Client().Do(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	f := &tail{t: t, lines: make(chan string, 100)}
	if resp.StatusCode != 200 {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%d: %s", resp.StatusCode, body)
	}
	go func() {
		defer close(f.lines)
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			f.lines <- s.Text()
		}
	}()
	return f
}

// next is the next line that is no heartbeat; "" at the end of the stream.
func (f *tail) next() string {
	f.t.Helper()
	for {
		select {
		case line := <-f.lines:
			if line != `{"heartbeat":true}` {
				return line
			}
		case <-time.After(20 * time.Second):
			f.t.Fatal("nothing comes")
		}
	}
}

// event is the index and kind of the next event.
func (f *tail) event() (int64, string) {
	f.t.Helper()
	line := f.next()
	var e api.EventLine
	if err := json.Unmarshal([]byte(line), &e); err != nil || len(e.Envelope) == 0 {
		f.t.Fatalf("no event: %q", line)
	}
	v, err := audit.Parse(e.Envelope)
	if err != nil {
		f.t.Fatal(err)
	}
	return e.Index, v.Kind
}

func (f *tail) wants(index int64, kind string) {
	f.t.Helper()
	if i, k := f.event(); i != index || k != kind {
		f.t.Errorf("event %d %s, want %d %s", i, k, index, kind)
	}
}

// problem is what stands in place of the last line.
func (f *tail) problem() api.Problem {
	f.t.Helper()
	line := f.next()
	var e api.EventLine
	if err := json.Unmarshal([]byte(line), &e); err != nil || e.Problem == nil {
		f.t.Fatalf("no problem: %q", line)
	}
	if after := f.next(); after != "" {
		f.t.Errorf("after the problem comes %q", after)
	}
	return *e.Problem
}

// TestFollow: what is there comes first, then what is appended, each once and in order; heartbeats
// between, and the last line when the broker drains.
func TestFollow(t *testing.T) {
	w := readWorld(t)
	f := w.as("carol", "reviewers").tail(t, "user:bob or kind:log.recovery", "after", "4")
	f.wants(5, audit.KindSFTPRename)
	f.wants(6, audit.KindSessionEnd)
	beat := <-f.lines // nothing that was asked for: a heartbeat
	if beat != `{"heartbeat":true}` {
		t.Errorf("got %q", beat)
	}
	w.append(w.event(audit.KindUserLogin, "alice", "login/3", ""), w.event(audit.KindUserLogout, "bob", "login/2", "")) // 7 is the audit.read
	f.wants(9, audit.KindUserLogout)
	for range 3 {
		w.append(w.event(audit.KindUserLogin, "bob", "login/3", ""))
	}
	f.wants(10, audit.KindUserLogin)
	f.wants(11, audit.KindUserLogin)
	f.wants(12, audit.KindUserLogin)
	w.s.Drain()
	if end := f.next(); end+"\n" != lastLine {
		t.Errorf("the end is %q", end)
	}
	if e := w.events()[7]; e.Kind != audit.KindAuditRead || !strings.Contains(string(e.Details), `"after":4,"follow":true`) {
		t.Errorf("event %+v %s", e, e.Details)
	}
}

// TestFollowEnds (I3): nothing more comes once the session has ended or policy has changed.
func TestFollowEnds(t *testing.T) {
	for name, c := range map[string]struct {
		who, group string
		do         func(w *world, p caller)
		kind       api.Kind
	}{
		"logged out": {"carol", "reviewers", func(w *world, p caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.EndSession(ctx, tx, p.session.ID, state.EndedLogout, w.clock.now())
			})
		}, api.KindUnauthenticated},
		"revoked": {"carol", "reviewers", func(w *world, p caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.EndSession(ctx, tx, p.session.ID, state.EndedRevoked, w.clock.now())
			})
		}, api.KindRevoked},
		"blocked": {"carol", "reviewers", func(w *world, p caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.BlockSubject(ctx, tx, issuer, p.session.Subject, issuer, "sam", "x")
			})
		}, api.KindRevoked},
		"expired":           {"carol", "reviewers", func(w *world, _ caller) { w.clock.add(2 * time.Hour) }, api.KindUnauthenticated},
		"no longer allowed": {"carol", "reviewers", func(w *world, _ caller) { w.setPolicy(policies) }, api.KindDenied},
		"only one's own":    {"carol", "reviewers", func(w *world, _ caller) { w.setPolicy(strings.ReplaceAll(readPolicies, "reviewers", "nobody")) }, api.KindDenied},
		"content taken away": {"alice", "", func(w *world, _ caller) {
			w.setPolicy(strings.Replace(readPolicies, `Action::"readContent", resource is`, `Action::"verifyLog", resource is`, 1))
		}, api.KindDenied},
	} {
		t.Run(name, func(t *testing.T) {
			w := readWorld(t)
			p := w.as(c.who, c.group)
			f := p.tail(t, "kind:session.*", "after", "5")
			if c.who == "carol" {
				f.wants(6, audit.KindSessionEnd)
			} else if beat := <-f.lines; beat != `{"heartbeat":true}` {
				t.Errorf("got %q", beat)
			}
			c.do(w, p)
			w.append(w.event(audit.KindSessionEnd, c.who, "host/after", ""))
			if got := f.problem(); got.Kind != c.kind {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestFollowRenewed: a session that is renewed under way goes on.
func TestFollowRenewed(t *testing.T) {
	w := readWorld(t)
	p := w.as("carol", "reviewers")
	f := p.tail(t, "kind:session.end", "after", "5")
	f.wants(6, audit.KindSessionEnd)
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.RenewSession(ctx, tx, p.session.ID, []byte("another token's hash"), p.session.Groups, w.clock.now().Add(5*time.Hour))
	})
	w.clock.add(2 * time.Hour)
	w.append(w.event(audit.KindSessionEnd, "bob", "host/after", ""))
	f.wants(8, audit.KindSessionEnd)
}

// TestBreakOff: a log that fails under way is said in the stream, which then has no last line.
func TestBreakOff(t *testing.T) {
	w := readWorld(t)
	carol := w.as("carol", "reviewers")
	w.s.Log = failingLog{Log: w.log, search: 2}
	rec := carol.do("GET", eventsPath(""), nil)
	lines := strings.Split(strings.TrimSpace(rec.Body.String()), "\n")
	var last api.EventLine
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(lines) != 3 || last.Problem == nil || last.Problem.Kind != api.KindUnavailable || strings.Contains(rec.Body.String(), "end") {
		t.Errorf("%v: %s", err, rec.Body)
	}
}
