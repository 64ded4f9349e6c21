package bastion

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

const (
	maxInner   = 64               // hosts that one outer connection reaches at a time
	drainGrace = 10 * time.Second // more than an inner session needs to tell its person why it ends
)

var errTooMany = errors.New("too many connections through this one")

// usage says how a host is reached.
func (b *Bastion) usage() string {
	return fmt.Sprintf("type `ssh -J %s LOGIN@HOST` or `ssh LOGIN%%HOST@%s`", b.cfg.Name, b.cfg.Name)
}

// serveJump serves the outer connection of `ssh -J`. It carries nothing but inner SSH connections,
// each answered by the bastion itself under the host's mask (design R7): no byte of the outer
// connection reaches a host.
func (b *Bastion) serveJump(ctx context.Context, c *client) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	entry := &live{subject: outerSubject(c.cert), cut: func(why endReason) bool { cancel(why); return true }}
	if b.reg.admit(b.reg.claim(), entry) != nil {
		cancel(leaseEnded())
	}
	defer b.reg.remove(entry)
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(c.reqs) })
	wg.Go(func() { _ = c.conn.Wait(); cancel(clientClosed()) })
	b.acceptInner(ctx, c)
	_ = c.raw.Close()
	wg.Wait()
}

// acceptInner returns when the outer connection has ended and nothing inside it lives any more.
func (b *Bastion) acceptInner(ctx context.Context, c *client) {
	var inner sync.WaitGroup
	slots := make(chan struct{}, maxInner)
	for {
		select {
		case <-ctx.Done():
			b.drainInner(c, &inner)
			return
		case nc, ok := <-c.chans:
			if !ok {
				inner.Wait()
				return
			}
			select {
			case slots <- struct{}{}:
				inner.Go(func() { b.inner(ctx, c, nc); <-slots })
			default:
				reject(nc, errTooMany)
			}
		}
	}
}

// drainInner refuses what comes while the inner connections end. A laptop that has stopped reading
// does not let them: after drainGrace the outer connection is closed over them.
func (b *Bastion) drainInner(c *client, inner *sync.WaitGroup) {
	var wg sync.WaitGroup
	wg.Go(func() { waitAtMost(inner, drainGrace); _ = c.raw.Close() })
	for nc := range c.chans {
		reject(nc, errors.New("the connection is ending"))
	}
	inner.Wait()
	wg.Wait()
}

// inner answers one channel of an outer connection.
func (b *Bastion) inner(ctx context.Context, outer *client, nc ssh.NewChannel) {
	switch nc.ChannelType() {
	case "direct-tcpip":
	case "session":
		reject(nc, errors.New("this is the bastion, no host: "+b.usage()))
		return
	default:
		b.noteRaw(outer, nc.ChannelType())
		reject(nc, fmt.Errorf("%s is not allowed: %s", printable(clip(nc.ChannelType())), b.usage()))
		return
	}
	host, err := parseJump(nc.ExtraData(), b.cfg.JumpPorts)
	if err == nil && host == b.cfg.Name {
		err = fmt.Errorf("%s is the bastion itself", host)
	}
	if err != nil {
		b.noteRaw(outer, err.Error())
		reject(nc, err)
		return
	}
	mask, err := b.innerMask(ctx, host)
	if err != nil {
		reject(nc, err)
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(reqs) })
	conn := newChannelConn(ch, outer.conn.LocalAddr(), outer.conn.RemoteAddr())
	wg.Go(conn.carry)
	b.serveInner(ctx, outer, conn, mask, host)
	_ = conn.Close()
	wg.Wait()
}

// noteRaw reports an attempt to use the outer connection for something else than ssh to a host. Its
// reason is one for all, so that a scan of ports becomes a few events.
func (b *Bastion) noteRaw(outer *client, what string) {
	d := refusedCert(outer.cert, outer.conn)
	d.Wanted, d.Signed = printable(clip(what)), true
	b.refusals.note(outer.source, "something else than ssh to a host through ssh -J", d)
}

func (b *Bastion) innerMask(ctx context.Context, host string) (ssh.Signer, error) {
	if err := b.feed.open(); err != nil {
		return nil, err
	}
	mask, err := b.masks.get(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("no access to %s: %w", host, err)
	}
	return mask, nil
}

// serveInner proxies the inner connection, which must be signed by the certificate of the outer one.
func (b *Bastion) serveInner(ctx context.Context, outer *client, conn net.Conn, mask ssh.Signer, host string) {
	c, err := b.handshake(ctx, conn, mask, &authenticator{b: b, source: outer.source, outer: outer.cert})
	if err != nil {
		return
	}
	login := c.conn.User()
	if err := sshca.CheckLogin(login); err != nil {
		b.onlyTell(c, hint(err, "%s", b.usage()))
		return
	}
	b.proxy(ctx, c, route{kind: routeJump, login: login, host: host})
}

func reject(nc ssh.NewChannel, err error) {
	_ = nc.Reject(ssh.Prohibited, strings.Join(explain(err), "; "))
}

// outerSubject is what is known of a person before the broker has been asked.
func outerSubject(cert *ssh.Certificate) subject {
	id, err := sshca.ParseKeyID(cert.KeyId)
	if err != nil {
		return subject{}
	}
	return subject{login: id.Session}
}
