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
	maxOuter   = 1024             // outer connections of a login; a tool without shared ones has one for each host
	drainGrace = 10 * time.Second // more than an inner session needs to tell its person why it ends
)

var (
	errTooMany   = errors.New("too many connections through this one")
	errManyOuter = errors.New("this login has as many connections to this bastion as one may")
)

// usage says how a host is reached.
func (b *Bastion) usage() string {
	return fmt.Sprintf("type `ssh -J %s LOGIN@HOST` or `ssh LOGIN%%HOST@%s`", b.cfg.Name, b.cfg.Name)
}

// jump is the outer connection of `ssh -J`.
type jump struct {
	*client
	entry *live
	inner sync.WaitGroup
	slots chan struct{}

	mu   sync.Mutex
	open int       // inner connections that are authenticated
	last time.Time // when the last of them ended
}

// enter counts an inner connection; what it returns ends that.
func (j *jump) enter() (leave func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open++
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.open--
		j.last = time.Now()
	}
}

// idle returns for how long nothing has gone through.
func (j *jump) idle() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.open > 0 {
		return 0
	}
	return time.Since(j.last)
}

// serveJump serves the outer connection of `ssh -J`. It carries nothing but inner SSH connections,
// each answered by the bastion itself under the host's mask (design R7): no byte of the outer
// connection reaches a host.
func (b *Bastion) serveJump(ctx context.Context, c *client) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	j := &jump{client: c, slots: make(chan struct{}, maxInner), last: time.Now()}
	j.entry = &live{subject: outerSubject(c.holder), sever: func(why endReason, _ <-chan struct{}) bool { cancel(outerEnd(why)); return true }}
	if b.reg.admit(b.reg.claim(), j.entry) != nil {
		cancel(leaseEnded())
	}
	defer b.reg.remove(j.entry)
	if b.reg.outers(c.holder.login) > maxOuter {
		b.reg.remove(j.entry)
		b.onlyTell(c, hint(errManyOuter, "close some, or share one (ControlMaster in ssh_config)"))
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(c.reqs) })
	wg.Go(func() { _ = c.conn.Wait(); cancel(c.gone()) })
	b.acceptInner(ctx, j)
	_ = c.raw.Close()
	wg.Wait()
}

// acceptInner returns when the outer connection has ended and nothing inside it lives any more.
func (b *Bastion) acceptInner(ctx context.Context, j *jump) {
	idle := time.NewTimer(b.cfg.JumpIdle)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			j.drain()
			return
		case <-idle.C:
			left := b.cfg.JumpIdle - j.idle()
			if left <= 0 {
				b.cfg.Log.Debug("outer connection closed: nothing goes through it", "source", j.source)
				j.drain()
				return
			}
			idle.Reset(left)
		case nc, ok := <-j.chans:
			if !ok {
				j.inner.Wait()
				return
			}
			select {
			case j.slots <- struct{}{}:
				j.inner.Go(func() { b.inner(ctx, j, nc); <-j.slots })
			default:
				reject(nc, errTooMany)
			}
		}
	}
}

// drain refuses what comes while the inner connections end. A laptop that has stopped reading does
// not let them: after drainGrace the outer connection is closed over them.
func (j *jump) drain() {
	var wg sync.WaitGroup
	wg.Go(func() { waitAtMost(&j.inner, drainGrace); _ = j.raw.Close() })
	for nc := range j.chans {
		reject(nc, errors.New("the connection is ending"))
	}
	j.inner.Wait()
	wg.Wait()
}

// inner answers one channel of an outer connection.
func (b *Bastion) inner(ctx context.Context, outer *jump, nc ssh.NewChannel) {
	switch nc.ChannelType() {
	case "direct-tcpip":
	case "session":
		reject(nc, errors.New("this is the bastion, no host: "+b.usage()))
		return
	default:
		b.noteRaw(outer.client, nc.ChannelType())
		reject(nc, fmt.Errorf("%s is not allowed: %s", printable(clip(nc.ChannelType())), b.usage()))
		return
	}
	host, err := parseJump(nc.ExtraData(), b.cfg.JumpPorts)
	if err == nil && host == b.cfg.Name {
		err = fmt.Errorf("%s is the bastion itself", host)
	}
	if err != nil {
		b.noteRaw(outer.client, err.Error())
		reject(nc, err)
		return
	}
	mask, err := b.innerMask(ctx, host, outer.holder)
	if errors.Is(err, errTooFast) {
		d := refusedKey(outer.holder.key, outer.conn)
		d.Host, d.Signed = host, true
		b.refusals.note(outer.source, errTooFast.Error(), d)
	}
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
	d := refusedKey(outer.holder.key, outer.conn)
	d.Wanted, d.Signed = printable(clip(what)), true
	b.refusals.note(outer.source, reasonRaw, d)
}

func (b *Bastion) innerMask(ctx context.Context, host string, h *holder) (ssh.Signer, error) {
	if err := b.open(); err != nil {
		return nil, err
	}
	mask, err := b.masks.get(ctx, host, h)
	if err != nil {
		return nil, fmt.Errorf("no access to %s: %w", host, err)
	}
	return mask, nil
}

// serveInner proxies the inner connection, which must be signed by what has signed the outer one.
func (b *Bastion) serveInner(ctx context.Context, outer *jump, conn net.Conn, mask ssh.Signer, host string) {
	c, err := b.handshake(ctx, newBufferedConn(conn, &b.buffers), mask, &authenticator{b: b, source: outer.source, outer: outer.holder})
	if err != nil {
		return
	}
	defer outer.enter()()
	c.outer, c.lost = outer.entry, outer.lost
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

// outerSubject is what is known of a person before the broker has been asked; the registry learns
// the rest with the first session that goes through.
func outerSubject(h *holder) subject {
	return subject{login: h.login, outer: true, access: h.serial()}
}
