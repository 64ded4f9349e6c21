package broker

import (
	"context"
	"iter"
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

const standPolicies = policies + `
@id("reviewers") @max_auth_age("30m")
permit (principal in Group::"reviewers", action in [Action::"readEvents", Action::"readContent", Action::"verifyLog", Action::"replay"], resource);
`

// onWrite is an answer, of which the first piece that is written lets something happen.
type onWrite struct {
	*httptest.ResponseRecorder
	do func()
}

func (w *onWrite) Write(p []byte) (int, error) {
	if w.do != nil {
		w.do()
		w.do = nil
	}
	return w.ResponseRecorder.Write(p)
}

// served is a request that may be broken off, with the answer as far as it came.
func (w *world) served(r *http.Request, do func()) (rec *httptest.ResponseRecorder, aborted bool) {
	out := &onWrite{httptest.NewRecorder(), do}
	defer func() {
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler {
				panic(v)
			}
			rec, aborted = out.ResponseRecorder, true
		}
	}()
	w.s.ServeHTTP(out, r)
	return out.ResponseRecorder, false
}

// manyRollups is a log that has been counted in very many groups.
type manyRollups struct{ store.Log }

func (manyRollups) Rollups(context.Context) (int64, iter.Seq2[audit.Rollup, error]) {
	return 1, func(yield func(audit.Rollup, error) bool) {
		for i := range 3000 {
			if !yield(audit.Rollup{RollupKey: audit.RollupKey{Cube: audit.CubeFull, Email: strings.Repeat("x", 100)}, N: int64(i)}, nil) {
				return
			}
		}
	}
}

// TestStreamsStand (I3): whatever would refuse a new request ends an answer that is being sent, and the
// client can tell. Every answer here is more than what one write takes.
func TestStreamsStand(t *testing.T) {
	w, shelf, _ := reviewed(t)
	w.s.standsEvery = 0
	w.s.Log = manyRollups{w.log}
	shelf.add(watched, strings.Repeat("0123456789abcdef", 64<<10))
	var many []made
	for range 300 {
		many = append(many, w.event(audit.KindUserLogin, "bob", "login/2", strings.Repeat("x", 900)))
	}
	w.append(many...)
	streams := map[string]string{
		"play":     recordingPath("purpose=play&reason=x"),
		"export":   recordingPath("purpose=export&reason=x"),
		"verify":   recordingPath("purpose=verify"),
		"catch-up": recordingPath("purpose=tail&follow=1&reason=x"),
		"tail":     recordingPath("purpose=tail&reason=x"),
		"rows":     api.RouteLog + "?from=0&to=300",
		"rollups":  api.RouteRollups,
		"entries":  "/tlog/tile/entries/000",
		"search":   eventsPath("kind:user.login"),
		"follow":   eventsPath("kind:user.login", "follow", "1"),
	}
	end := func(why string) func(*world, caller) {
		return func(w *world, p caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.EndSession(ctx, tx, p.session.ID, why, w.clock.now())
			})
		}
	}
	for cause, do := range map[string]func(w *world, p caller){
		"revoked":    end(state.EndedRevoked),
		"logged out": end(state.EndedLogout),
		"blocked": func(w *world, p caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.BlockSubject(ctx, tx, issuer, p.session.Subject, issuer, "sam", "x")
			})
		},
		"expired": func(w *world, _ caller) { w.clock.add(61 * time.Minute) },
		"lost the group at a renewal": func(w *world, p caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.RenewSession(ctx, tx, p.session.ID, []byte("the hash of "+p.session.ID), []string{"engineering"}, p.session.Expires)
			})
		},
		"policy":         func(w *world, _ caller) { w.setPolicy(policies) },
		"login is stale": func(w *world, _ caller) { w.clock.add(31 * time.Minute) },
	} {
		for name, path := range streams {
			t.Run(cause+"/"+name, func(t *testing.T) {
				w.setPolicy(standPolicies)
				p := w.as(strings.NewReplacer(" ", "-", "/", "-").Replace(cause+name), "reviewers")
				happened := false
				rec, aborted := w.served(p.request("GET", path, nil), func() { do(w, p); happened = true })
				body := rec.Body.String()
				if !happened || rec.Code != 200 || len(body) == 0 {
					t.Fatalf("%d, %.100s", rec.Code, body)
				}
				if len(body) > 3*piece {
					t.Errorf("%d bytes came", len(body))
				}
				if strings.HasSuffix(body, lastLine) || strings.Contains(path, "recordings") && !aborted {
					t.Errorf("it ends as if it were whole: ...%.100s", body[max(0, len(body)-100):])
				}
			})
		}
	}
}

// TestStreamsThatStand come whole.
func TestStreamsThatStand(t *testing.T) {
	w, shelf, _ := reviewed(t)
	w.s.standsEvery = 0
	w.setPolicy(standPolicies)
	shelf.add(watched, strings.Repeat("0123456789abcdef", 64<<10))
	carol := w.as("carol", "reviewers")
	renew := func() { // a session that is renewed under way goes on
		w.write(func(ctx context.Context, tx store.Tx) error {
			return state.RenewSession(ctx, tx, carol.session.ID, carol.session.TokenHash, carol.session.Groups, w.clock.now().Add(2*time.Hour))
		})
		w.clock.add(20 * time.Minute)
	}
	rec, aborted := w.served(carol.request("GET", recordingPath("purpose=play&reason=x"), nil), renew)
	if rec.Body.Len() != 1<<20 || aborted {
		t.Errorf("%d bytes, aborted: %v", rec.Body.Len(), aborted)
	}
}

// TestScreensStand: what screens showed is answered with recordings that the asker may replay; once he
// may not, no more of it comes.
func TestScreensStand(t *testing.T) {
	w := screenWorld(t)
	w.s.standsEvery = 0
	w.indexer("mch_9", hits(6+300, "ssh_bob"))
	var many []made
	for range 300 {
		many = append(many, w.event(audit.KindSessionEnd, "bob", "host/web-2", strings.Repeat("x", 900)))
	}
	w.append(many...)
	carol := w.as("carol", "reviewers")
	rec, _ := w.served(carol.request("GET", eventsPath("screen:xyz"), nil), func() {
		w.setPolicy(strings.ReplaceAll(screenPolicies, `@id("replays") permit`, `@id("replays") forbid`))
	})
	body := rec.Body.String()
	if len(body) > 3*piece || strings.Contains(body, lastLine) || !strings.Contains(body, "has changed") {
		t.Errorf("%d bytes: ...%.300s", len(body), body[max(0, len(body)-300):])
	}
}

// TestOneLookASecond: a stream asks the database no more often than that.
func TestOneLookASecond(t *testing.T) {
	w, shelf, carol := reviewed(t)
	shelf.add(watched, strings.Repeat("x", 4<<20))
	reads := &countingLog{Log: w.log}
	w.s.Log = reads
	carol.do("GET", recordingPath("purpose=play&reason=x"), nil)
	if reads.n > 20 {
		t.Errorf("%d reads for 64 pieces", reads.n)
	}
}

type countingLog struct {
	store.Log
	n int
}

func (l *countingLog) Read(ctx context.Context, f func(context.Context, store.Querier) error) error {
	l.n++
	return l.Log.Read(ctx, f)
}
