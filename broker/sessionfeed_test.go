package broker

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// followed is a feed of a session as its agent reads it.
type followed struct {
	t     testing.TB
	items chan api.FeedItem // closed at its end
}

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// feed follows a session's feed on a connection of its own.
func (p caller) feed() *followed {
	p.w.t.Helper()
	srv := httptest.NewServer(p.w.s)
	p.w.t.Cleanup(srv.Close)
	return p.feedAt(srv)
}

func (p caller) feedAt(srv *httptest.Server) *followed {
	t := p.w.t
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := p.request("GET", api.RouteSessionFeed, nil).WithContext(ctx)
	r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", srv.Listener.Addr().String()
	res, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	f := &followed{t: t, items: make(chan api.FeedItem, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(f.items)
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			var p api.Problem
			if err := json.NewDecoder(res.Body).Decode(&p); err == nil {
				f.items <- api.FeedItem{Type: "refused", Problem: &p}
			}
			return
		}
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			var item api.FeedItem
			if err := json.Unmarshal(lines.Bytes(), &item); err != nil {
				t.Errorf("%v: %s", err, lines.Bytes())
				return
			}
			f.items <- item
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// next returns the next item, or one of no type at the end.
func (f *followed) next() api.FeedItem {
	f.t.Helper()
	select {
	case item := <-f.items:
		return item
	case <-time.After(patience):
		f.t.Fatal("nothing came")
		return api.FeedItem{}
	}
}

// until reads up to an item of a type.
func (f *followed) until(kind string) api.FeedItem {
	f.t.Helper()
	for {
		switch item := f.next(); item.Type {
		case kind:
			return item
		case "":
			f.t.Fatalf("the feed ended before %s", kind)
		}
	}
}

// end reads to the end and returns why it came.
func (f *followed) end() *api.Problem {
	f.t.Helper()
	p := f.until(api.FeedEnd).Problem
	if last := f.next(); last.Type != "" {
		f.t.Errorf("after the end: %+v", last)
	}
	return p
}

// quick makes the broker's heartbeat one that a test can wait for.
func quick(c *Config) {
	c.Times = DefaultTimes()
	c.Times.Heartbeat, c.Times.RevokeWait = 40*time.Millisecond, 2*time.Second
}

func TestSessionFeed(t *testing.T) {
	w := newWorld(t, quick)
	alice := w.login()
	f := alice.feed()
	trust := f.next()
	if trust.Type != api.FeedTrust || len(trust.Trust.FrontCAs) != 1 || len(trust.Trust.AccessCAs)+len(trust.Trust.HostCAs) != 0 {
		t.Errorf("begins with %+v", trust)
	}
	beat := f.next()
	if beat.Type != api.FeedHeartbeat || beat.Checkpoint == "" || beat.LeaseMS != 30000 || !beat.Session.Expires.Equal(alice.session.Expires) || !beat.Session.Now.Equal(w.clock.now()) {
		t.Errorf("goes on with %+v", beat)
	}
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.EndSession(ctx, tx, alice.session.ID, state.EndedLogout, w.clock.now())
	})
	if p := f.end(); p.Kind != api.KindUnauthenticated {
		t.Errorf("ends with %+v", p)
	}
}
