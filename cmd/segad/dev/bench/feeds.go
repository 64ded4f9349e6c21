//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/client"
	"sega/broker/state"
	"sega/keychain/secret"
)

const (
	feeds      = 1000
	feedsTime  = 10 * time.Second // measured
	joinTime   = 30 * time.Second
	joiningNow = 16 // at a time
)

// feeding is a laptop's agent as the broker sees it.
type feeding struct {
	key     dpop.Key
	token   secret.Secret
	session state.Session
}

// idleFeeds measures what the broker spends on agents that follow their sessions while nothing happens, each
// on a connection of its own.
func (b *bench) idleFeeds() error {
	e, err := b.environment()
	if err != nil {
		return err
	}
	agents, err := newFeedings(feeds)
	if err != nil {
		return err
	}
	// Sessions by the thousand are written, not logged in: what logging in costs is not asked here.
	if err := e.stop(); err != nil {
		return err
	}
	if err := e.admit(b.ctx, agents); err != nil {
		return err
	}
	if err := e.start(b.ctx); err != nil {
		return err
	}
	return b.follow(e, agents)
}

func newFeedings(n int) ([]feeding, error) {
	out, now := make([]feeding, n), time.Now()
	for i := range out {
		key, err := dpop.GenerateKey()
		if err != nil {
			return nil, err
		}
		token, name := api.NewToken(api.PrefixSession), fmt.Sprintf("agent-%04d", i)
		hash := sha256.Sum256(token.Reveal())
		out[i] = feeding{key: key, token: token, session: state.Session{ID: api.NewID(api.IDLogin), Kind: state.KindLogin, TokenHash: hash[:], Thumbprint: key.Thumbprint(),
			Issuer: "https://idp.invalid", Subject: name, Email: name + "@example.com", Groups: []string{"engineering", "oncall"}, Method: api.MethodBrowser, MFA: true,
			AuthTime: now, Created: now, Expires: now.Add(time.Hour), NotAfter: now.Add(12 * time.Hour), Epoch: 1, Rev: 1}}
	}
	return out, nil
}

// admit writes the sessions into the database of a broker that does not run.
func (e *environment) admit(ctx context.Context, agents []feeding) (err error) {
	db, err := sql.Open("sqlite", filepath.Join(e.data, "sega.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, a := range agents {
		s := a.session
		_, err := state.SeeSubject(ctx, tx, s.Issuer, s.Subject, s.Email, "", s.Created)
		if err = errors.Join(err, state.AddSession(ctx, tx, s)); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// follow lets all agents follow, and measures once each has its heartbeat.
func (b *bench) follow(e *environment, agents []feeding) error {
	roots, err := e.roots()
	if err != nil {
		return err
	}
	broker := e.PIDs["broker"]
	before, err := b.settled(func() (float64, error) { return pss(broker) })
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(b.ctx)
	group, ctx := errgroup.WithContext(ctx)
	done := errors.New("measured")
	var beats, live atomic.Int64
	gate, cut := make(chan struct{}, joiningNow), make(chan time.Time, 1)
	for _, a := range agents {
		group.Go(func() error {
			c, err := client.New(client.Config{Origin: e.Broker, RootCAs: roots, Key: a.key, Token: func() secret.Secret { return a.token }, UserAgent: "sega/bench"})
			if err != nil {
				return err
			}
			defer c.Close()
			gate <- struct{}{}
			first := true
			err = c.SessionFeed(ctx, func(item api.FeedItem) error {
				switch {
				case item.Type == api.FeedRevoke:
					cut <- time.Now()
				case item.Type == api.FeedHeartbeat && first:
					first = false
					live.Add(1)
					<-gate
				}
				beats.Add(1)
				return nil
			})
			if api.IsKind(err, api.KindRevoked) {
				return nil
			}
			return err
		})
	}
	err = await(ctx, joinTime, "heartbeats of all agents", func() error {
		if n := live.Load(); n < int64(len(agents)) {
			return fmt.Errorf("%d of %d have one", n, len(agents))
		}
		return nil
	})
	if err == nil {
		err = b.weighFeeds(ctx, broker, before, len(agents), &beats)
	}
	if err == nil {
		err = b.tellOne(ctx, e, agents[len(agents)/2].session.ID, cut)
	}
	stop(done)
	if ended := group.Wait(); err == nil && !errors.Is(ended, done) {
		err = ended
	}
	return err
}

func (b *bench) weighFeeds(ctx context.Context, broker int, before float64, n int, beats *atomic.Int64) error {
	from, err := usageOf(broker)
	if err != nil {
		return err
	}
	heard := beats.Load()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(feedsTime):
	}
	to, err := usageOf(broker)
	if err != nil {
		return err
	}
	after, err := pss(broker)
	if err != nil {
		return err
	}
	minutes := feedsTime.Minutes()
	b.add(result("broker.feed.idle", millis(to.self-from.self)/float64(n)/minutes, "CPU ms per feed per minute"),
		result("broker.feed.idle.heartbeats", float64(beats.Load()-heard)/float64(n)/minutes, "per feed per minute"),
		result("broker.feed.idle.memory", (after-before)/float64(n), "KiB PSS"))
	return nil
}

// tellOne measures how long after security has sent a revocation one agent of all has it.
func (b *bench) tellOne(ctx context.Context, e *environment, login string, cut <-chan time.Time) error {
	sam, err := e.someone("sam@example.com")
	if err != nil {
		return err
	}
	security, err := e.login(ctx, sam, net.IPv4(127, 0, 2, 2))
	if err != nil {
		return err
	}
	defer security.leave()
	from := time.Now()
	if _, err := security.Revoke(ctx, api.RevokeRequest{Subject: api.SubjectSession, ID: login, Reason: "bench"}); err != nil {
		return err
	}
	select {
	case at := <-cut:
		b.add(result("broker.feed.revoke", millis(at.Sub(from)), "ms"))
		return nil
	case <-time.After(cutTime):
		return errors.New("the agent was not told")
	}
}
