package bastion

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

const acceptPause = 50 * time.Millisecond // after an error such as too many open files

// acceptAll serves connections under theirs, until ctx ends and the listener is closed. It waits for none
// of them.
func (b *Bastion) acceptAll(ctx, theirs context.Context, conns *sync.WaitGroup) {
	for {
		nc, err := b.cfg.Listener.Accept()
		switch {
		case err == nil:
			conns.Go(func() { b.serveConn(theirs, nc) })
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default:
			b.cfg.Log.Error("connection not accepted", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
		}
	}
}

// serveConn authenticates one connection and proxies what it wants.
func (b *Bastion) serveConn(ctx context.Context, nc net.Conn) {
	c, err := b.authenticate(ctx, nc)
	if err != nil {
		return
	}
	defer c.keepAlive(b.cfg.KeepAlive)()
	r, direct, err := parseUser(c.conn.User())
	switch {
	case err != nil:
		b.onlyTell(c, hint(err, "%s", b.usage()))
	case direct:
		b.proxy(ctx, c, r)
	default:
		b.serveJump(ctx, c)
	}
}

// authenticate runs the handshake within the login grace. To whoever holds no certificate it shows
// the bastion's own key and nothing else.
func (b *Bastion) authenticate(ctx context.Context, nc net.Conn) (*client, error) {
	raw := newBufferedConn(nc, &b.buffers)
	source, err := b.source(ctx, raw)
	if err != nil {
		raw.Abort()
		return nil, err
	}
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	leave, dropped := b.door.enter(stranger{raw.Conn, gone}, source)
	defer leave()
	if dropped.IsValid() {
		b.cfg.Log.Debug("too many handshakes at once: oldest connection dropped", "source", dropped)
	}
	done, err := b.attempts.turn(ctx, source)
	if err != nil {
		raw.Abort()
		return nil, err
	}
	defer done()
	front, err := b.front(ctx)
	if err != nil {
		b.cfg.Log.Warn("no host certificate: connection dropped", "error", err)
		raw.Abort()
		return nil, err
	}
	return b.handshake(ctx, raw, front, &authenticator{b: b, source: source})
}

// front returns the bastion's own host key, once the broker has said whom to trust.
func (b *Bastion) front(ctx context.Context) (ssh.Signer, error) {
	select {
	case <-b.feed.ready:
		return b.masks.own(ctx)
	default:
		return nil, errNoTrust
	}
}

func (b *Bastion) handshake(ctx context.Context, raw *bufferedConn, host ssh.Signer, a *authenticator) (*client, error) {
	grace := time.AfterFunc(b.cfg.LoginGrace, raw.Abort)
	defer grace.Stop()
	stop := context.AfterFunc(ctx, raw.Abort)
	defer stop()
	conn, h, chans, reqs, err := a.handshake(raw, host)
	if err != nil {
		raw.Abort()
		return nil, err
	}
	return &client{conn: conn, raw: raw, holder: h, source: a.source, chans: chans, reqs: reqs, lost: new(atomic.Bool)}, nil
}

// onlyTell ends a connection with the reason that err gives.
func (b *Bastion) onlyTell(c *client, err error) {
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(c.reqs) })
	c.tellAndClose(err)
	wg.Wait()
}
