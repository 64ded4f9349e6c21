package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/broker/api"
)

// lockedBuffer is an output that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits until the output holds a text.
func (l *lockedBuffer) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(l.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in\n%s", text, l)
		}
	}
}

// tailing runs `audit tail` until it is interrupted.
func tailing(t *testing.T, r *reviewer, args ...string) (out *lockedBuffer, interrupt func() int) {
	t.Helper()
	out = &lockedBuffer{}
	r.app.out, r.app.err = out, out
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- run(ctx, append([]string{"audit", "tail"}, args...), r.app) }()
	t.Cleanup(cancel)
	return out, func() int {
		cancel()
		select {
		case c := <-code:
			return c
		case <-time.After(20 * time.Second):
			t.Fatal("it does not end")
			return -1
		}
	}
}

// TestTail: the last events that are there, then each that comes, once and in order; Ctrl-C ends it
// well. A broker that restarts is found again, and nothing is lost or repeated.
func TestTail(t *testing.T) {
	b, r := queryWorld(t)
	out, interrupt := tailing(t, r, "--user", "bob", "--json", "--lines", "2")
	out.await(t, `"idx":5`)
	b.of("alice", audit.KindUserLogout, "login/1", 0)
	b.of("bob", audit.KindUserLogout, "login/2", 0)
	out.await(t, `"idx":7`)
	b.stop(true)
	out.await(t, "trying again")
	b.of("bob", audit.KindUserLogin, "login/3", 0)
	b.stop(false)
	out.await(t, `"idx":8`)
	b.of("bob", audit.KindUserLogout, "login/3", 0)
	out.await(t, `"idx":9`)
	if code := interrupt(); code != 0 {
		t.Errorf("exit %d", code)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		if _, after, found := strings.Cut(line, `"idx":`); found {
			got = append(got, after[:1])
		}
	}
	if diff := cmp.Diff([]string{"4", "5", "7", "8", "9"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestTailTable: the header stands before the first event, and with --lines 0 nothing that was there.
func TestTailTable(t *testing.T) {
	b, r := queryWorld(t)
	out, interrupt := tailing(t, r, "role:*", "--lines", "0")
	out.await(t, "REASON\n")
	b.of("bob", audit.KindAWSAssume, "role/late", 0)
	out.await(t, "role/late")
	if code := interrupt(); code != 0 || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestTailEnds: what the broker refuses for good ends it, with the code of the refusal.
func TestTailEnds(t *testing.T) {
	for kind, want := range map[api.Kind]int{api.KindDenied: exitDenied, api.KindRevoked: exitRevoked, api.KindUnauthenticated: exitLogin, api.KindInternal: exitFailed} {
		b, r := queryWorld(t)
		answer := b.answer
		b.answer = func(w http.ResponseWriter, req *http.Request) bool {
			if req.URL.Query().Get(api.ParamFollow) != "1" {
				return answer(w, req)
			}
			w.Header().Set("Content-Type", "application/x-ndjson")
			_ = json.NewEncoder(w).Encode(map[string]any{"problem": api.Errorf(kind, "that was all")})
			return true
		}
		if code := r.sega("audit", "tail"); code != want || !strings.Contains(r.talk.String(), "that was all") || !strings.Contains(r.out.String(), "role/dev") {
			t.Errorf("%s: exit %d\n%s%s", kind, code, r.out, r.talk)
		}
	}
	b, r := queryWorld(t)
	b.server.Close()
	if code := r.sega("audit", "tail"); code != exitUnreachable {
		t.Errorf("a broker that is not there: exit %d %s", code, r.talk)
	}
	if err := (&follower{after: 3, tries: tailTries}).again(t.Context(), api.Errorf(api.KindUnreachable, "x")); !api.IsKind(err, api.KindUnreachable) {
		t.Errorf("it tries for ever: %v", err)
	}
	if err := (&follower{after: 3}).again(t.Context(), fmt.Errorf("asking: %w", errRenew)); err != nil {
		t.Errorf("a renewal ends it: %v", err)
	}
}

// TestTailFlags: what would be ignored is refused, before anything is asked of the broker.
func TestTailFlags(t *testing.T) {
	for _, args := range [][]string{
		{"ssh_0123456789abcdef", "--json"}, {"ssh_0123456789abcdef", "--user", "alice"}, {"ssh_0123456789abcdef", "--lines", "3"},
		{"kind:user.*", "--raw"}, {"--reason", "INC-7"}, {"--identity", "x"},
	} {
		a, _, talk := testApp(t)
		if code := run(t.Context(), append([]string{"audit", "tail"}, args...), a); code != exitUsage {
			t.Errorf("%q: %d, %s", args, code, talk)
		}
	}
}
