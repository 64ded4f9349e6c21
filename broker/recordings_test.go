package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

const replayPolicy = policies + `
@id("review") permit (principal in Group::"reviewers", action in [Action::"replay", Action::"verifyLog"], resource);
`

const watched = "ssh_abcdefghijkl"

// shelf keeps recordings in memory as a bucket does.
type shelf struct {
	mu   sync.Mutex
	data map[string][]byte
	err  error
}

func (s *shelf) add(id, data string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data[id] = append(s.data[id], data...)
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *shelf) Reader(_ context.Context, id string, from int64) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.data[id]
	switch {
	case s.err != nil:
		return nil, s.err
	case !ok:
		return nil, fmt.Errorf("%s: %w", id, fs.ErrNotExist)
	case from > int64(len(data)):
		return nil, fs.ErrInvalid
	}
	return &shelfReader{s, id, int(from)}, nil
}

type shelfReader struct {
	*shelf
	id string
	at int
}

func (r *shelfReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := copy(p, r.data[r.id][r.at:])
	if r.at += n; n == 0 && r.err == nil {
		return 0, io.EOF
	}
	return n, r.err
}

func (r *shelfReader) Close() error { return nil }

// reviewed is a world with a live SSH session of alice and a reviewer.
func reviewed(t *testing.T) (*world, *shelf, caller) {
	t.Helper()
	s := &shelf{data: map[string][]byte{}}
	w := newWorld(t, func(c *Config) { c.Recordings = s })
	w.mu.Lock()
	w.policy["p.cedar"].Data = []byte(replayPolicy)
	w.mu.Unlock()
	w.config.Policy.Reload()
	if err := w.config.Policy.Err(); err != nil {
		t.Fatal(err)
	}
	alice := w.login()
	w.write(func(ctx context.Context, tx store.Tx) error {
		v := state.SSHSession{ID: watched, Bearer: state.Bearer{LoginID: alice.session.ID, Issuer: issuer, Subject: "alice", Epoch: 1, Rev: 1}, Email: "alice@example.com",
			Host: "web-1", Labels: map[string]string{}, Login: "deploy", Node: "bastion-1", Started: w.clock.now(), NotAfter: w.clock.now().Add(time.Hour)}
		return errors.Join(state.AddSSH(ctx, tx, v), state.SetSSHState(ctx, tx, watched, state.SSHLive))
	})
	return w, s, w.login(func(s *state.Session) {
		s.Subject, s.Email, s.Groups = "carol", "carol@example.com", []string{"reviewers"}
	})
}

func recordingPath(query string) string { return "/v1/recordings/" + watched + "?" + query }

func TestRecordingAnswers(t *testing.T) {
	w, shelf, carol := reviewed(t)
	shelf.add(watched, "0123456789")
	bob := w.login(func(s *state.Session) { s.Subject, s.Email = "bob", "bob@example.com" })
	for name, c := range map[string]struct {
		who   caller
		query string
		code  int
		want  string
	}{
		"play":                    {carol, "purpose=play&reason=INC-1", 200, "0123456789"},
		"export":                  {carol, "purpose=export&reason=INC-1", 200, "0123456789"},
		"from a byte":             {carol, "purpose=tail&reason=INC-1&from=7", 200, "789"},
		"from its end":            {carol, "purpose=tail&reason=INC-1&from=10", 200, ""},
		"verify":                  {carol, "purpose=verify", 200, "0123456789"},
		"behind its end":          {carol, "purpose=play&reason=INC-1&from=11", 400, "no byte 11"},
		"before its start":        {carol, "purpose=play&reason=INC-1&from=-1", 400, "from is a number of 0 or more"},
		"no purpose":              {carol, "reason=INC-1", 400, "the purpose is"},
		"the indexer's":           {carol, "purpose=index&reason=INC-1", 400, "the purpose is"},
		"play without a reason":   {carol, "purpose=play", 400, "asks for a reason"},
		"export with a blank one": {carol, "purpose=export&reason=%20%0a%09", 400, "asks for a reason"},
		"tail without a reason":   {carol, "purpose=tail&follow=1", 400, "asks for a reason"},
		"play that follows":       {carol, "purpose=play&reason=INC-1&follow=1", 400, "only the purpose tail"},
		"two reasons":             {carol, "purpose=play&reason=INC-1&reason=INC-2", 400, "reason is given 2 times"},
		"an unknown parameter":    {carol, "purpose=play&reason=INC-1&to=7", 400, "no parameter"},
		"follow=yes":              {carol, "purpose=tail&reason=INC-1&follow=yes", 400, "follow is 1"},
		"not a reviewer":          {bob, "purpose=play&reason=INC-1", 403, ""},
		"not a reviewer's verify": {bob, "purpose=verify", 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rec := c.who.do("GET", recordingPath(c.query), nil)
			if rec.Code != c.code || !strings.Contains(rec.Body.String(), c.want) || c.code == 200 && rec.Body.String() != c.want {
				t.Errorf("%d: %s", rec.Code, rec.Body)
			}
		})
	}
	if rec := carol.do("GET", "/v1/recordings/ssh_nobodyknows?purpose=play&reason=x", nil); problemOf(t, rec).Kind != api.KindNotFound {
		t.Errorf("%d: %s", rec.Code, rec.Body)
	}
	shelf.fail(errors.New("disk"))
	if rec := carol.do("GET", recordingPath("purpose=play&reason=x"), nil); problemOf(t, rec).Kind != api.KindInternal || strings.Contains(rec.Body.String(), "disk") {
		t.Errorf("%d: %s", rec.Code, rec.Body)
	}
}

// TestRecordingIsAudited: who reads, why and from where on is in the log before the first byte.
func TestRecordingIsAudited(t *testing.T) {
	w, shelf, carol := reviewed(t)
	shelf.add(watched, "0123456789")
	carol.do("GET", recordingPath("purpose=export&from=3&reason=a%1b%5d0%3bx+b"), nil)
	events := w.events()
	last := events[len(events)-1]
	var details map[string]any
	if err := json.Unmarshal(last.Details, &details); err != nil {
		t.Fatal(err)
	}
	got := []any{last.Kind, last.Outcome, last.Actor.Email, last.SessionID, last.Resource, last.PolicyIDs, details}
	want := []any{"recording.read", last.Outcome, "carol@example.com", watched, "recording/" + watched, []string{"review"}, map[string]any{"purpose": "export", "from": 3.0, "follow": false}}
	if diff := cmp.Diff(want, got); diff != "" || last.Outcome != "success" {
		t.Errorf("%s: -want +got\n%s", last.Outcome, diff)
	}
	if strings.ContainsRune(last.Reason, 0x1b) || !strings.Contains(last.Reason, "x b") {
		t.Errorf("reason %q", last.Reason)
	}
	w.log.on(func([]audit.Event) error { return errDisk })
	if rec := carol.do("GET", recordingPath("purpose=export&reason=x"), nil); strings.Contains(rec.Body.String(), "0123") {
		t.Error("bytes left without their event")
	}
}

// tailReader reads a tail over real HTTP.
type tailReader struct {
	t    *testing.T
	body io.ReadCloser
}

func tailOf(t *testing.T, w *world, who caller, from int) *tailReader {
	t.Helper()
	server := httptest.NewServer(w.s)
	t.Cleanup(server.Close)
	r := who.request("GET", recordingPath(fmt.Sprintf("purpose=tail&reason=INC-1&follow=1&from=%d", from)), nil)
	out, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+r.URL.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	out.Header = r.Header
	resp, err := server.Client().Do(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		data, _ := io.ReadAll(resp.Body)
		t.Fatalf("%d: %s", resp.StatusCode, data)
	}
	return &tailReader{t, resp.Body}
}

func (f *tailReader) expect(want string) {
	f.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(f.body, got); err != nil || string(got) != want {
		f.t.Fatalf("%q, %v, want %q", got, err, want)
	}
}

// ends reads to the end and says whether it was the recording's.
func (f *tailReader) ends() (rest string, whole bool) {
	data, err := io.ReadAll(f.body)
	return string(data), err == nil
}

func TestTail(t *testing.T) {
	w, shelf, carol := reviewed(t)
	f := tailOf(t, w, carol, 0) // before there is anything
	shelf.add(watched, "one")
	f.expect("one")
	second := tailOf(t, w, carol, 2)
	shelf.add(watched, "two")
	f.expect("two")
	second.expect("etwo")
	shelf.add(watched, "last words")
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.SetSSHState(ctx, tx, watched, state.SSHEnded)
	})
	for _, f := range []*tailReader{f, second} {
		if rest, whole := f.ends(); rest != "last words" || !whole {
			t.Errorf("%q, whole %v", rest, whole)
		}
	}
}

// TestTailEnds: whatever would refuse a new request ends a tail too, and the client can tell that
// from the recording's end.
func TestTailEnds(t *testing.T) {
	for name, do := range map[string]func(w *world, s *shelf, carol caller){
		"revoked": func(w *world, _ *shelf, carol caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.EndSession(ctx, tx, carol.session.ID, state.EndedRevoked, w.clock.now())
			})
		},
		"expired":       func(w *world, _ *shelf, _ caller) { w.clock.add(61 * time.Minute) },
		"drained":       func(w *world, _ *shelf, _ caller) { w.s.Drain() },
		"bucket breaks": func(_ *world, s *shelf, _ caller) { s.fail(errors.New("bucket is gone")) },
		"policy": func(w *world, _ *shelf, _ caller) {
			w.mu.Lock()
			w.policy["p.cedar"].Data = bytes.ReplaceAll(w.policy["p.cedar"].Data, []byte(`"reviewers"`), []byte(`"auditors"`))
			w.mu.Unlock()
			w.config.Policy.Reload()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, shelf, carol := reviewed(t)
			shelf.add(watched, "one")
			f := tailOf(t, w, carol, 0)
			f.expect("one")
			do(w, shelf, carol)
			if rest, whole := f.ends(); rest != "" || whole {
				t.Errorf("%q, whole %v", rest, whole)
			}
		})
	}
}

// TestTailOfWhatHasEnded: of a session that is over a tail is what there is.
func TestTailOfWhatHasEnded(t *testing.T) {
	w, shelf, carol := reviewed(t)
	shelf.add(watched, "all of it")
	w.clock.add(59 * time.Minute)
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.SetSSHState(ctx, tx, watched, state.SSHEnded)
	})
	if rest, whole := tailOf(t, w, carol, 4).ends(); rest != "of it" || !whole {
		t.Errorf("%q, whole %v", rest, whole)
	}
}
