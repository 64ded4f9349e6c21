package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"sega/broker/api"
	"sega/keychain/secret"
)

const (
	// enough is how long credentials must still live to be handed out where there are better ones to be had:
	// botocore refreshes by force at 10 minutes.
	enough = 10 * time.Minute
	// soon is from when on they are replaced behind what goes on.
	soon = 20 * time.Minute
	// wanted is how long after their last use credentials are still replaced before anybody asks.
	wanted = 30 * time.Minute
	// again is how long a failed replacement behind what goes on is not tried anew.
	again = time.Minute
	// askTime bounds one question to the broker, which itself waits 20 seconds for AWS.
	askTime = 40 * time.Second
	// maxHeld bounds what is held at once.
	maxHeld = 512
)

// Minter hands out credentials and says whether they may be used once more; a broker's client is one.
type Minter interface {
	Credentials(ctx context.Context, r api.CredentialsRequest) (api.Credentials, error)
	Reuse(ctx context.Context, r api.ReuseRequest) (api.Reuse, error)
}

// held are credentials in memory, and under which standing (api.FeedSession) they may be handed out
// without a question.
type held struct {
	request  api.CredentialsRequest
	creds    api.Credentials
	standing string
	used     time.Time // by the broker's clock
	tried    time.Time // to replace them behind what goes on, in vain
}

// wallet holds the credentials of one login. All questions about the same credentials are one question.
type wallet struct {
	minter   Minter
	clock    *clock
	standing func() string
	ctx      context.Context // ends with the login; its cause is what whoever asks later is told

	flights singleflight.Group
	behind  sync.WaitGroup

	mu      sync.Mutex
	held    map[string]*held
	emptied int // credentials that the end of the login has dropped
}

func newWallet(ctx context.Context, m Minter, c *clock, standing func() string) *wallet {
	return &wallet{minter: m, clock: c, standing: standing, ctx: ctx, held: map[string]*held{}}
}

// get returns credentials for a request. Warm ones come without a question while the feed lives (R12);
// ones that end soon are replaced behind that.
func (w *wallet) get(ctx context.Context, r api.CredentialsRequest) (api.Credentials, error) {
	key, err := keyOf(r)
	if err != nil {
		return api.Credentials{}, err
	}
	if c, left, ok := w.warm(key); ok && left >= enough {
		if left < soon {
			w.replaceBehind(key, r)
		}
		return c, nil
	}
	return w.wait(ctx, w.flights.DoChan(key, func() (any, error) { return w.ask(key, r) }), key)
}

// keyOf names what is asked for: whoever asks for something else gets something else.
func keyOf(r api.CredentialsRequest) (string, error) {
	raw, err := json.Marshal(r)
	sum := sha256.Sum256(raw)
	return string(sum[:]), err
}

// warm returns a copy of what may be handed out without a question, and how long it lives.
func (w *wallet) warm(key string) (api.Credentials, time.Duration, bool) {
	now, leased, standing := w.clock.now(), w.clock.leased(), w.standing()
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.held[key]
	if h == nil || !leased || h.standing != standing || w.ctx.Err() != nil {
		return api.Credentials{}, 0, false
	}
	h.used = now
	return clone(h.creds), h.creds.Expiration.Sub(now), true
}

// wait returns what a question has brought, or nothing where the login has ended meanwhile.
func (w *wallet) wait(ctx context.Context, answer <-chan singleflight.Result, key string) (api.Credentials, error) {
	select {
	case <-ctx.Done():
		return api.Credentials{}, context.Cause(ctx)
	case <-w.ctx.Done():
		return api.Credentials{}, context.Cause(w.ctx)
	case v := <-answer:
		if w.ctx.Err() != nil {
			return api.Credentials{}, context.Cause(w.ctx)
		}
		if v.Err != nil {
			return api.Credentials{}, v.Err
		}
		return clone(v.Val.(api.Credentials)), nil
	}
}

// ask gets credentials of which nobody has to be asked later: those that are held, if the broker stands
// by them, or new ones. Where there are none to be had it falls back on what is held and lives.
func (w *wallet) ask(key string, r api.CredentialsRequest) (api.Credentials, error) {
	ctx, cancel := context.WithTimeout(w.ctx, askTime)
	defer cancel()
	old, found := w.look(key)
	// Outside of the lease the time is a guess: how long they live the broker says, too.
	if found && (!w.clock.leased() || old.creds.Expiration.Sub(w.clock.now()) >= enough) {
		if c, err := w.confirm(ctx, key, old); err != nil || c.AccessKeyID != "" {
			return c, err
		}
		found = false
	}
	c, err := w.replace(ctx, key, r)
	if err == nil || !found || !temporary(err) {
		return c, err
	}
	if warm, left, ok := w.warm(key); ok && left > 0 {
		return warm, nil
	}
	return c, err
}

// temporary reports whether an error says nothing of whether the person may.
func temporary(err error) bool {
	switch api.AsProblem(err).Kind {
	case api.KindUnreachable, api.KindUnavailable, api.KindUpstream, api.KindRateLimited, api.KindInternal:
		return true
	}
	return false
}

// confirm asks whether held credentials may be handed out; nothing where new ones must be got.
func (w *wallet) confirm(ctx context.Context, key string, old held) (api.Credentials, error) {
	standing := w.standing() // as it was when the broker decided, or older
	answer, err := w.minter.Reuse(ctx, api.ReuseRequest{Role: old.creds.Role, AccessKeyID: old.creds.AccessKeyID, Reason: old.request.Reason, Ticket: old.request.Ticket})
	switch {
	case api.IsKind(err, api.KindNotFound):
		w.drop(key)
		return api.Credentials{}, nil
	case err != nil:
		return api.Credentials{}, err
	case time.Duration(answer.SecondsLeft)*time.Second < enough:
		return api.Credentials{}, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.held[key]; h != nil && h.creds.AccessKeyID == old.creds.AccessKeyID {
		h.standing, h.used = standing, w.clock.now()
	}
	return old.creds, nil
}

// replace gets new credentials and holds them.
func (w *wallet) replace(ctx context.Context, key string, r api.CredentialsRequest) (api.Credentials, error) {
	standing := w.standing()
	c, err := w.minter.Credentials(ctx, r)
	if err != nil {
		return c, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil {
		return api.Credentials{}, context.Cause(w.ctx)
	}
	now := w.clock.now()
	if h := w.held[key]; h != nil {
		wipe(h.creds)
	} else {
		w.makeRoom(now)
	}
	w.held[key] = &held{request: r, creds: clone(c), standing: standing, used: now}
	c.Notices = slices.Clone(c.Notices)
	w.held[key].creds.Notices = nil // told once
	return c, nil
}

// replaceBehind gets new credentials while the old ones still serve; one at a time, and not at once
// again after a failure.
func (w *wallet) replaceBehind(key string, r api.CredentialsRequest) {
	now := w.clock.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.held[key]
	if h == nil || now.Sub(h.tried) < again || w.ctx.Err() != nil {
		return
	}
	h.tried = now
	w.behind.Go(func() {
		<-w.flights.DoChan(key, func() (any, error) {
			ctx, cancel := context.WithTimeout(w.ctx, askTime)
			defer cancel()
			return w.replace(ctx, key, r)
		})
	})
}

// tend replaces what ends soon and was used of late, and forgets what has ended.
func (w *wallet) tend() {
	now := w.clock.now()
	due := map[string]api.CredentialsRequest{}
	w.mu.Lock()
	for key, h := range w.held {
		switch left := h.creds.Expiration.Sub(now); {
		case left <= 0:
			wipe(h.creds)
			delete(w.held, key)
		case left < soon && now.Sub(h.used) < wanted:
			due[key] = h.request
		}
	}
	w.mu.Unlock()
	if !w.clock.leased() {
		return
	}
	for key, r := range due {
		w.replaceBehind(key, r)
	}
}

// makeRoom drops what was used longest ago. Under the lock.
func (w *wallet) makeRoom(now time.Time) {
	if len(w.held) < maxHeld {
		return
	}
	oldest, since := "", now.Add(time.Hour)
	for key, h := range w.held {
		if h.used.Before(since) {
			oldest, since = key, h.used
		}
	}
	wipe(w.held[oldest].creds)
	delete(w.held, oldest)
}

func (w *wallet) look(key string) (held, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.held[key]
	if h == nil {
		return held{}, false
	}
	v := *h
	v.creds = clone(h.creds)
	return v, true
}

func (w *wallet) drop(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.held[key]; h != nil {
		wipe(h.creds)
		delete(w.held, key)
	}
}

// empty drops all at the login's end, after which nothing comes in. It returns how many credentials that were,
// whoever was the first to drop them.
func (w *wallet) empty() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.emptied += len(w.held)
	for key, h := range w.held {
		wipe(h.creds)
		delete(w.held, key)
	}
	return w.emptied
}

// list says what is held.
func (w *wallet) list() []Held {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []Held{}
	for _, h := range slices.SortedFunc(maps.Values(w.held), func(a, b *held) int { return a.creds.Expiration.Compare(b.creds.Expiration) }) {
		r := h.request
		v := Held{Role: h.creds.Role, ReadOnly: r.ReadOnly, Narrowed: r.Policy != "" || len(r.PolicyARNs) > 0, Seconds: r.Seconds, Expires: h.creds.Expiration}
		if n := len(r.Chain); n > 0 {
			v.Through = append([]string{r.Role}, r.Chain[:n-1]...)
		}
		out = append(out, v)
	}
	return out
}

// clone copies the secrets too, so that those that are held can be wiped.
func clone(c api.Credentials) api.Credentials {
	c.SecretAccessKey, c.SessionToken = secret.New(c.SecretAccessKey.Reveal()), secret.New(c.SessionToken.Reveal())
	return c
}

func wipe(c api.Credentials) {
	c.SecretAccessKey.Wipe()
	c.SessionToken.Wipe()
}
