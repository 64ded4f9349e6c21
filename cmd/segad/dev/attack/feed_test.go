//go:build linux

package attack

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"sega/audit"
	"sega/broker"
	"sega/broker/api"
)

// listener follows the feed of a session.
type listener struct {
	t     testing.TB
	body  io.Closer
	items chan api.FeedItem // closed at the end

	mu  sync.Mutex
	raw bytes.Buffer
}

// quick makes heartbeats that a test can wait for, and lets receipts wait.
func quick(_ *world, c *broker.Config) {
	c.Times.Heartbeat, c.Times.RevokeWait = 50*time.Millisecond, 10*time.Second
	c.Bastions = nil // which would be waited for
}

// listen follows the feed until it ends, or the test does.
func (p *person) listen() *listener {
	p.t.Helper()
	l, err := p.follow()
	if err != nil {
		p.t.Fatal(err)
	}
	return l
}

func (p *person) follow() (*listener, error) {
	resp, err := p.web.Client().Do(p.request(p.get(api.RouteSessionFeed)))
	if err != nil {
		return nil, err
	}
	l := &listener{t: p.t, body: resp.Body, items: make(chan api.FeedItem, 10_000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(l.items)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			l.mu.Lock()
			l.raw.Write(lines.Bytes())
			l.mu.Unlock()
			var item api.FeedItem
			if resp.StatusCode == 200 && json.Unmarshal(lines.Bytes(), &item) == nil {
				l.items <- item
			}
		}
	}()
	p.t.Cleanup(func() { _ = l.body.Close(); <-done })
	return l, nil
}

// next returns the next item, or one of no type at the end.
func (l *listener) next() api.FeedItem {
	l.t.Helper()
	select {
	case item := <-l.items:
		return item
	case <-time.After(patience):
		l.t.Fatal("nothing came")
		return api.FeedItem{}
	}
}

// until reads up to an item of a type, or to the end.
func (l *listener) until(kind string) api.FeedItem {
	l.t.Helper()
	for {
		if item := l.next(); item.Type == kind || item.Type == "" {
			return item
		}
	}
}

func (l *listener) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.raw.String()
}

// TestTheFeedTellsFirst: the agent hears of its revocation before the feed ends, says what it dropped with the dead session,
// and the receipt waits for that. With it nothing else is possible.
func TestTheFeedTellsFirst(t *testing.T) {
	for name, target := range map[string]func(alice *person) (subject, id string){
		"by user":  func(*person) (string, string) { return "user", "alice@example.com" },
		"by login": func(alice *person) (string, string) { return "session", alice.LoginID },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, quick)
			alice, sam := w.login("alice"), w.login("sam")
			l := alice.listen()
			if l.until(api.FeedHeartbeat).Type == "" {
				t.Fatal("no heartbeat")
			}
			done := make(chan api.Receipt, 1)
			go func() { done <- w.revoked(sam.revoke(target(alice))) }()
			r := l.until(api.FeedRevoke).Revocation
			if r == nil || r.Reason != "attack" {
				t.Fatalf("revocation %+v", r)
			}
			if end := l.next(); end.Type != api.FeedEnd || end.Problem.Kind != api.KindRevoked {
				t.Errorf("then %+v", end)
			}
			w.attack(alice.credentials(), api.KindRevoked, "request.refuse", audit.Revoked)
			w.attack(alice.get(api.RouteSessionFeed), api.KindRevoked, "request.refuse", audit.Revoked)
			into[api.Empty](t, w.send(alice.post(api.RouteSessionAck, api.Ack{Index: r.Index, Closed: 2})))
			receipt := <-done
			if receipt.Index != r.Index || receipt.EventID != r.EventID {
				t.Errorf("receipt %+v of %+v", receipt, r)
			}
			var agents []api.Point
			for _, p := range receipt.Points {
				if p.Kind == api.PointAgent {
					agents = append(agents, p)
				}
			}
			if len(agents) != 1 || !strings.Contains(agents[0].Name, alice.LoginID) || !agents[0].Acknowledged || agents[0].Closed != 2 || agents[0].Millis > 9000 {
				t.Errorf("points %+v", receipt.Points)
			}
			w.clock.add(61 * time.Second)
			w.attack(alice.post(api.RouteSessionAck, api.Ack{Index: r.Index}), api.KindRevoked, "request.refuse", audit.Revoked)
		})
	}
}

// TestTheFeedIsOnesOwn: what befalls others is on nobody's feed, and whoever takes a token without its key has none.
func TestTheFeedIsOnesOwn(t *testing.T) {
	w := newWorld(t, quick)
	alice, other, bob, sam := w.login("alice"), w.login("alice"), w.login("bob"), w.login("sam")
	mine, his := other.listen(), bob.listen()
	mine.until(api.FeedHeartbeat)
	his.until(api.FeedHeartbeat)
	first := w.revoked(sam.revoke("session", alice.LoginID))
	m := w.machine(bastionName)
	second := w.revoked(sam.revoke("session", m.SessionID))
	for range 5 {
		mine.until(api.FeedHeartbeat)
		if his.until(api.FeedHeartbeat).Type == "" {
			t.Fatal("bob's feed ended")
		}
	}
	for name, l := range map[string]*listener{"alice's other": mine, "bob's": his} {
		for _, text := range []string{"revoke", alice.LoginID, "alice@", "00ualice", m.SessionID, first.EventID, second.EventID, "attack\""} {
			if strings.Contains(l.all(), text) {
				t.Errorf("%s feed holds %q:\n%s", name, text, l.all())
			}
		}
	}
	thief := get(api.RouteSessionFeed, newHolder(t), bob.token)
	w.attack(thief, api.KindUnauthenticated, "request.refuse", audit.Denied)
	w.attack(get(api.RouteSessionFeed, m.key, m.token), api.KindUnauthenticated, "request.refuse", audit.Denied)
	w.attack(post(api.RouteSessionAck, newHolder(t), bob.token, api.Ack{}), api.KindUnauthenticated, "request.refuse", audit.Denied)
	w.attack(get(api.RouteFeed+"?after=-1", bob.key, bob.token), api.KindDenied, "request.refuse", audit.Denied)
	w.attack(post(api.RouteAck, bob.key, bob.token, api.Ack{}), api.KindDenied, "request.refuse", audit.Denied)
	back := w.machineSession(m.key)
	w.attack(get(api.RouteSessionFeed, back.key, back.token), api.KindDenied, "request.refuse", audit.Denied)
	w.attack(back.post(api.RouteSessionAck, api.Ack{}), api.KindDenied, "request.refuse", audit.Denied)
}

// TestRevokedWhileFeedsBegin lets feeds begin while their person is revoked: each is refused, or is told
// and ends; none goes on.
func TestRevokedWhileFeedsBegin(t *testing.T) {
	w := newWorld(t, quick, func(_ *world, c *broker.Config) { c.Times.RevokeWait = 10 * time.Millisecond })
	sam := w.login("sam")
	alices := make([]*person, 24)
	for i := range alices {
		alices[i] = w.login("alice")
	}
	var wg sync.WaitGroup
	begun := make(chan struct{}, len(alices))
	for _, p := range alices {
		wg.Go(func() {
			l, err := p.follow()
			begun <- struct{}{}
			if err != nil {
				t.Error(err)
				return
			}
			beats, told, last := 0, false, api.FeedItem{}
			for item := range l.items {
				beats, last = beats+1, item
				told = told || item.Type == api.FeedRevoke
			}
			if refused := strings.Contains(l.all(), `"kind":"revoked"`); !refused {
				t.Errorf("after %d items the feed ended with %+v: %s", beats, last, l.all())
			}
			if heartbeat := strings.Contains(l.all(), `"heartbeat"`); heartbeat && !told {
				t.Errorf("a feed that had begun was not told: %s", l.all())
			}
		})
	}
	for range len(alices) / 3 {
		<-begun
	}
	w.revoked(sam.revoke("user", "alice@example.com"))
	wg.Wait()
}
