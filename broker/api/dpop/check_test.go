package dpop

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sega/keychain/secret"
)

// clock is a wall clock that a test turns.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(1_800_000_000_000)
	return c
}
func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func newServer(t testing.TB, c *clock) (*Nonces, *Replay) {
	t.Helper()
	n, err := NewNonces(nil, 0, c.now)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReplay(0, n.Lifetime(), c.now)
	if err != nil {
		t.Fatal(err)
	}
	return n, r
}

func TestCheck(t *testing.T) {
	c := newClock()
	n, r := newServer(t, c)
	k, other := newTestKey(t), newTestKey(t)
	token := secret.FromString("sega_ses_1")
	good := Want{Method: "POST", HTU: target, ATH: ATH(token), Thumbprint: k.Thumbprint()}
	old := n.Issue()
	c.advance(DefaultNonceTTL + time.Millisecond)
	fresh := n.Issue()
	foreign, err := NewNonces(nil, 0, c.now)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key    Key
		method string
		htu    string
		token  secret.Secret
		nonce  string
		want   Want
		err    error
	}{
		"good":               {k, "POST", target, token, fresh, good, nil},
		"login":              {k, "POST", target, secret.Secret{}, fresh, Want{Method: "POST", HTU: target}, nil},
		"equal address":      {k, "POST", "HTTPS://SEGA.corp.example:443/v1/roles?a=b#c", token, fresh, good, nil},
		"no nonce":           {k, "POST", target, token, "", good, ErrNonce},
		"old nonce":          {k, "POST", target, token, old, good, ErrNonce},
		"another's nonce":    {k, "POST", target, token, foreign.Issue(), good, ErrNonce},
		"method":             {k, "GET", target, token, fresh, good, ErrMismatch},
		"method's case":      {k, "post", target, token, fresh, good, ErrMismatch},
		"host":               {k, "POST", "https://evil.example/v1/roles", token, fresh, good, ErrMismatch},
		"port":               {k, "POST", "https://sega.corp.example:8443/v1/roles", token, fresh, good, ErrMismatch},
		"scheme":             {k, "POST", "http://sega.corp.example/v1/roles", token, fresh, good, ErrMismatch},
		"path":               {k, "POST", target + "/", token, fresh, good, ErrMismatch},
		"path's case":        {k, "POST", "https://sega.corp.example/v1/Roles", token, fresh, good, ErrMismatch},
		"escaped path":       {k, "POST", "https://sega.corp.example/v1%2Froles", token, fresh, good, ErrMismatch},
		"token":              {k, "POST", target, secret.FromString("sega_ses_2"), fresh, good, ErrMismatch},
		"no token":           {k, "POST", target, secret.Secret{}, fresh, good, ErrMismatch},
		"token at login":     {k, "POST", target, token, fresh, Want{Method: "POST", HTU: target}, ErrMismatch},
		"key":                {other, "POST", target, token, fresh, good, ErrKey},
		"key, and old nonce": {other, "POST", target, token, old, good, ErrKey},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := tc.key.Proof(tc.method, tc.htu, tc.token, tc.nonce)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if err := Check(p, tc.want, n, r); !errors.Is(err, tc.err) {
				t.Fatalf("got %v, want %v", err, tc.err)
			}
			if tc.err != nil {
				return
			}
			if err := Check(p, tc.want, n, r); !errors.Is(err, ErrReplay) {
				t.Errorf("the second showing gives %v", err)
			}
		})
	}
}

// A proof can be shown a second time at no moment: as long as its nonce lives the cache remembers.
func TestReplayOutlivesNonce(t *testing.T) {
	c := newClock()
	n, r := newServer(t, c)
	k := newTestKey(t)
	text, err := k.Proof("GET", target, secret.Secret{}, n.Issue())
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want := Want{Method: "GET", HTU: target}
	c.advance(DefaultNonceTTL) // the last moment at which it is taken
	if err := Check(p, want, n, r); err != nil {
		t.Fatal(err)
	}
	for range 400 {
		if err := Check(p, want, n, r); err == nil {
			t.Fatal("taken twice")
		}
		c.advance(time.Second)
	}
}

func TestNonces(t *testing.T) {
	c := newClock()
	n, _ := newServer(t, c)
	nonce := n.Issue()
	if !n.Valid(nonce) {
		t.Fatal("a fresh nonce is not valid")
	}
	for i := range nonce {
		for _, ch := range []string{"A", "B", "~", "="} {
			if bent := nonce[:i] + ch + nonce[i+1:]; bent != nonce && n.Valid(bent) {
				t.Fatalf("valid after a change at %d", i)
			}
		}
	}
	for _, bad := range []string{"", "AAAA", nonce + "A", nonce[1:], nonce + "=", strings.Repeat("\n", len(nonce))} {
		if n.Valid(bad) {
			t.Errorf("%q is valid", bad)
		}
	}
	c.advance(-skew - time.Millisecond)
	if n.Valid(nonce) {
		t.Error("a nonce from the future is valid")
	}
	if _, err := NewNonces([]byte("short"), 0, c.now); err == nil {
		t.Error("a short key was taken")
	}
	if _, err := NewNonces(nil, 48*time.Hour, c.now); err == nil {
		t.Error("a nonce of two days was taken")
	}
	key := make([]byte, 32)
	a, errA := NewNonces(key, 0, c.now)
	b, errB := NewNonces(key, 0, c.now)
	if errA != nil || errB != nil || !a.Valid(b.Issue()) {
		t.Error("brokers that share a key do not take each other's nonces")
	}
}

func TestReplayIsBoundedAndFailsClosed(t *testing.T) {
	c := newClock()
	r, err := NewReplay(shards, time.Minute, c.now)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for i := range 10 * shards {
		if !r.Seen("t", fmt.Sprint(i)) {
			taken++
		}
	}
	if taken == 0 || taken > shards {
		t.Errorf("took %d of a cache of %d", taken, shards)
	}
	c.advance(time.Minute + time.Millisecond)
	if r.Seen("t", "afresh") {
		t.Error("still full after everything has expired")
	}
	held := 0
	for i := range r.shard {
		held += len(r.shard[i].seen)
	}
	if held > shards {
		t.Errorf("holds %d", held)
	}
	if _, err := NewReplay(1, time.Minute, nil); err == nil {
		t.Error("a cache of one was made")
	}
}

func TestReplayKeepsItsQueueShort(t *testing.T) {
	c := newClock()
	r, err := NewReplay(64*shards, time.Second, c.now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20000 {
		c.advance(time.Millisecond)
		if r.Seen("t", fmt.Sprint(i)) {
			t.Fatalf("%d was taken for a replay", i)
		}
	}
	for i := range r.shard {
		if s := &r.shard[i]; len(s.queue) > 256 || len(s.queue)-s.head != len(s.seen) {
			t.Fatalf("shard %d: queue of %d from %d, map of %d", i, len(s.queue), s.head, len(s.seen))
		}
	}
}

func TestReplayTakesOneOfMany(t *testing.T) {
	c := newClock()
	_, r := newServer(t, c)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := range 200 {
				if !r.Seen("t", fmt.Sprint(i)) {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() != 200 {
		t.Errorf("%d proofs were taken, of 200", taken.Load())
	}
}

func TestNormalise(t *testing.T) {
	for in, want := range map[string]string{
		"https://A.example":             "https://a.example/",
		"HTTPS://a.example:443/x?y#z":   "https://a.example/x",
		"https://a.example:8443/X":      "https://a.example:8443/X",
		"http://[::1]:80/x":             "http://[::1]/x",
		"https://a.example:/x":          "https://a.example/x",
		"https://a.example/a%2fb":       "https://a.example/a%2fb",
		"ftp://a.example/":              "",
		"https://u@a.example/":          "",
		"//a.example/":                  "",
		"/v1/roles":                     "",
		"https:a.example":               "",
		"https://a.example/\x00":        "",
		"https://a.example:99999999/%z": "",
	} {
		got, err := normalise(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q gives %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzNormalise(f *testing.F) {
	f.Add("HTTPS://a.example:443/x?y#z")
	f.Add("https://[::1]:443:443/")
	f.Add("https://a.example/%41")
	f.Fuzz(func(t *testing.T, s string) {
		once, err := normalise(s)
		if err != nil {
			return
		}
		if twice, err := normalise(once); err != nil || twice != once {
			t.Fatalf("%q gives %q and then %q, %v", s, once, twice, err)
		}
	})
}

func FuzzNonce(f *testing.F) {
	c := newClock()
	n, _ := newServer(f, c)
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, 24)))
	f.Fuzz(func(t *testing.T, s string) {
		if n.Valid(s) && s != n.Issue() {
			t.Fatalf("forged: %q", s)
		}
	})
}
