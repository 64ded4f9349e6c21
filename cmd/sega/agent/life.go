package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"sega/broker/api"
)

const (
	// renewBefore is how long before its end a session is renewed.
	renewBefore = 5 * time.Minute
	// tendEvery is how often what is held is looked at.
	tendEvery = 15 * time.Second
	// reconnect is between the loss of the feed and the next attempt, at first and at most.
	reconnectFirst, reconnectMost = 100 * time.Millisecond, 10 * time.Second
	// hearTime is how long an answer waits for a feed that is lost.
	hearTime = 300 * time.Millisecond
	// firstBeat is how long a new login waits for its feed before it answers without.
	firstBeat = 2 * time.Second
)

// Login is a person's stored session, open at the broker.
type Login interface {
	Minter
	Follower
	Certificate(ctx context.Context, r api.CertificateRequest) (api.Certificate, error)
	Origin() string
	FrontCAs() []string              // authorized_keys lines, as the broker told them at the login
	Session() api.Status             // as it was told last
	Renew(ctx context.Context) error // by a refresh at the identity provider; KindUnauthenticated where that is over for good
	LogSize() int64                  // of the audit log, as it was seen last
	Close()
}

// Follower follows the feed of the session; a broker's client is one.
type Follower interface {
	SessionFeed(ctx context.Context, handle func(api.FeedItem) error) error
	SessionAck(ctx context.Context, a api.Ack) error
}

// life is one login in the agent, from when it is opened until it ends.
type life struct {
	login  Login
	clock  *clock
	wallet *wallet
	logger *slog.Logger
	ctx    context.Context
	end    context.CancelCauseFunc // with the problem that whoever asks later is told
	beat   chan struct{}           // closed with the first heartbeat
	done   chan struct{}

	ssh heldKey

	poke chan struct{} // somebody asks: the feed is to be looked for now

	mu      sync.Mutex
	tried   chan struct{} // closed and replaced when the feed was found again, or not
	front   []string      // CAs, as the feed told them; nil: not yet
	session api.Status
	stands  string // api.FeedSession.Standing
	lostWhy string
}

func begin(login Login, read func() reading, logger *slog.Logger) *life {
	ctx, end := context.WithCancelCause(context.Background())
	l := &life{login: login, clock: &clock{read: read}, logger: logger, ctx: ctx, end: end, beat: make(chan struct{}), done: make(chan struct{}),
		poke: make(chan struct{}, 1), tried: make(chan struct{}), session: login.Session()}
	l.wallet = newWallet(ctx, login, l.clock, l.standing)
	go l.run()
	return l
}

// stop ends the life and waits for it; why is what whoever asks later is told.
func (l *life) stop(why *api.Problem) {
	l.end(why)
	<-l.done
}

// ready waits until the feed lives, or has been waited for.
func (l *life) ready(ctx context.Context) {
	timer := time.NewTimer(firstBeat)
	defer timer.Stop()
	select {
	case <-l.beat:
	case <-timer.C:
	case <-ctx.Done():
	case <-l.ctx.Done():
	}
}

// over returns why the login has ended, or nil.
func (l *life) over() *api.Problem {
	if l.ctx.Err() == nil {
		return nil
	}
	return api.AsProblem(context.Cause(l.ctx))
}

// run follows the feed and tends what is held until the login ends; then nothing is held any more.
func (l *life) run() {
	defer close(l.done)
	defer l.login.Close()
	defer l.wallet.behind.Wait()
	defer l.wallet.empty()
	defer l.ssh.drop()
	following := make(chan struct{})
	go func() {
		defer close(following)
		l.follow()
	}()
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			l.wallet.empty()
			l.logger.Info("a login has ended here", "login_id", l.login.Session().LoginID, "kind", l.over().Kind, "why", l.over().Detail)
			<-following
			return
		case <-tick.C:
			l.renewInTime()
			l.wallet.tend()
		}
	}
}

// follow keeps the feed, for as long as the broker knows the session.
func (l *life) follow() {
	pause := reconnectFirst
	for l.ctx.Err() == nil {
		from := l.clock.read()
		first := true
		err := l.login.SessionFeed(l.ctx, func(item api.FeedItem) error {
			err := l.item(item, first)
			first = first && item.Type != api.FeedHeartbeat
			return err
		})
		if l.ctx.Err() != nil {
			return
		}
		if !silent(err) {
			l.clock.lost()
		}
		if !l.survives(err) {
			return
		}
		l.lost(err)
		if l.clock.read().ticks-from.ticks > time.Minute || errors.Is(err, errLate) {
			pause = reconnectFirst // it has lived, or was heard and has lain unread here
		}
		l.rest(pause)
		pause = min(2*pause, reconnectMost)
	}
}

// silent reports whether the broker was not heard any more, in which case its lease goes on (R12). Whatever
// else it has said, or was not understood, ends that.
func silent(err error) bool {
	return api.IsKind(err, api.KindUnreachable) || api.IsKind(err, api.KindUnavailable)
}

// survives reports whether the login may go on after the feed has ended with an error; else it ends.
func (l *life) survives(err error) bool {
	switch p := api.AsProblem(err); p.Kind {
	case api.KindRevoked, api.KindDenied:
		l.end(p)
		return false
	case api.KindUnauthenticated:
		return l.revives(p)
	}
	return true
}

// revives renews a session whose hour is over, as after a laptop's sleep. Only a plain no ends the login:
// where nobody answers, or the refresh token cannot be read now, there is another attempt.
func (l *life) revives(expired *api.Problem) bool {
	err := l.login.Renew(l.ctx)
	switch p := api.AsProblem(err); {
	case err == nil:
		l.renewed()
		return true
	case p.Kind == api.KindRevoked || p.Kind == api.KindDenied:
		l.end(p)
		return false
	case p.Kind == api.KindUnauthenticated:
		l.end(expired)
		return false
	}
	l.logger.Warn("the session was not renewed", "error", err)
	return true
}

// rest waits between two attempts, not everybody as long as everybody else.
func (l *life) rest(pause time.Duration) {
	timer := time.NewTimer(pause/2 + rand.N(pause))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.poke:
	case <-l.ctx.Done():
	}
}

var errDropped = errors.New("agent: the login was revoked")

var errLate = errors.New("agent: the feed has lain unread")

// item takes one item of the feed; first is for a connection's first heartbeat and what comes before it.
func (l *life) item(item api.FeedItem, first bool) error {
	switch {
	case item.Type == api.FeedTrust && item.Trust != nil:
		l.mu.Lock()
		l.front = item.Trust.FrontCAs
		l.mu.Unlock()
	case item.Type == api.FeedHeartbeat && item.Session != nil:
		return l.heartbeat(item, first)
	case item.Type == api.FeedRevoke && item.Revocation != nil && item.Revocation.Profile != "":
		l.dropCertificate(*item.Revocation)
	case item.Type == api.FeedRevoke && item.Revocation != nil && item.Revocation.SessionID == "" && item.Revocation.Host == "":
		l.revoked(*item.Revocation)
		return errDropped
	}
	return nil
}

func (l *life) heartbeat(item api.FeedItem, first bool) error {
	if !l.clock.set(item.Session.Now, time.Duration(item.LeaseMS)*time.Millisecond, first) {
		return errLate
	}
	l.mu.Lock()
	if l.lostWhy != "" {
		l.tell()
	}
	l.stands, l.lostWhy = item.Session.Standing, ""
	l.session.Expires, l.session.Now = item.Session.Expires, item.Session.Now
	l.mu.Unlock()
	select {
	case <-l.beat:
	default:
		close(l.beat)
	}
	return nil
}

// revoked drops everything first, acknowledges second.
func (l *life) revoked(r api.Revocation) {
	why := api.Errorf(api.KindRevoked, "access was revoked: %s", r.Reason).WithHint("ask the security staff; after an unblock run: sega login")
	if r.Reason == "" {
		why.Detail = "access was revoked"
	}
	l.end(why)
	n := l.wallet.empty() + l.ssh.drop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), 5*time.Second)
	defer cancel()
	if err := l.login.SessionAck(ctx, api.Ack{Index: r.Index, Closed: n}); err != nil {
		l.logger.Warn("the broker did not take the acknowledgement of a revocation", "error", err)
	}
}

func (l *life) lost(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lostWhy == "" {
		l.logger.Info("the broker's feed is lost", "error", err)
	}
	l.lostWhy = err.Error()
	l.tell()
}

// tell wakes those who wait for the feed. Under the lock.
func (l *life) tell() {
	close(l.tried)
	l.tried = make(chan struct{})
}

// hear looks for a lost feed before somebody is answered: inside its lease that could be with what was revoked
// meanwhile. A broker that answers is found at once, one that does not is not waited for.
func (l *life) hear(ctx context.Context) {
	l.mu.Lock()
	lost, tried := l.lostWhy != "", l.tried
	l.mu.Unlock()
	if !lost {
		return
	}
	select {
	case l.poke <- struct{}{}:
	default: // somebody else has asked for it
	}
	timer := time.NewTimer(hearTime)
	defer timer.Stop()
	select {
	case <-tried:
	case <-timer.C:
	case <-ctx.Done():
	case <-l.ctx.Done():
	}
}

// renewInTime prolongs the session before it ends.
func (l *life) renewInTime() {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	now := l.clock.now()
	if s.Expires.Sub(now) >= renewBefore || now.After(s.NotAfter) || s.Expires.Equal(s.NotAfter) {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, askTime)
	defer cancel()
	if err := l.login.Renew(ctx); err != nil {
		l.logger.Warn("the session was not renewed", "error", err)
		return
	}
	l.renewed()
}

// renewed takes in what a renewal has changed; groups may be other ones, so decisions are asked for anew.
func (l *life) renewed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = l.login.Session()
}

func (l *life) standing() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stands
}

// describe is what Status says of the login.
func (l *life) describe(s *Status) {
	l.mu.Lock()
	session, why := l.session, l.lostWhy
	l.mu.Unlock()
	session.Now = l.clock.now().UTC()
	alive := l.clock.leased() && why == ""
	s.Origin, s.Session, s.LogSize, s.FeedAlive, s.Roles, s.SSHUntil, s.Why = l.login.Origin(), &session, l.login.LogSize(), alive, l.wallet.list(), l.ssh.until(), why
}
