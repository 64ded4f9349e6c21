//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"sega/audit"
	"sega/broker/api"
)

const (
	idleSessions = 500
	cutSessions  = 1000
	opening      = 4   // at a time
	maxIdleKiB   = 256 // for each session
	maxCut       = 250 // ms, with 1,000 live sessions
	cutTime      = 30 * time.Second
	settleEvery  = time.Second
	settleTimes  = 10
)

// idle measures what the bastion holds in memory for a session in which nothing happens.
func (b *bench) idle() error {
	e, l, err := b.lab()
	if err != nil {
		return err
	}
	ours, err := b.weigh(func() (float64, error) { return pss(e.PIDs["bastion"]) }, func() (*liveSession, error) { return l.throughBastion(e, l.access) })
	if err != nil {
		return err
	}
	peer, err := b.weigh(func() (float64, error) { return treePSS(l.jump.Process.Pid) }, l.throughJump)
	if err != nil {
		return err
	}
	b.add(result("bastion.idle", ours, "KiB PSS").against(jumpPeer+" (sshd)", peer).atMost(maxIdleKiB))
	return nil
}

// weigh opens sessions and returns the KiB that each adds. What the first ones cost once is left out.
func (b *bench) weigh(memory func() (float64, error), open func() (*liveSession, error)) (float64, error) {
	first, err := b.openSessions(warmUps, open)
	if err != nil {
		return 0, err
	}
	defer first.close()
	before, err := b.settled(memory)
	if err != nil {
		return 0, err
	}
	live, err := b.openSessions(idleSessions, open)
	if err != nil {
		return 0, err
	}
	defer live.close()
	after, err := b.settled(memory)
	return (after - before) / idleSessions, err
}

// settled waits until memory has changed by less than a hundredth for three seconds on end: what has just opened
// sessions is not idle yet.
func (b *bench) settled(memory func() (float64, error)) (float64, error) {
	from, err := memory()
	for still, looks := 0, 0; err == nil && still < 3 && looks < settleTimes; looks++ {
		select {
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		case <-time.After(settleEvery):
		}
		var now float64
		if now, err = memory(); now-from < now/100 && from-now < now/100 {
			still++
			continue
		}
		from, still = now, 0
	}
	return from, err
}

// cut measures how long after security has sent a revocation each of a person's live sessions ends at the person's side,
// when the hosts' sides are closed and acknowledged, and when the log has the end of each.
func (b *bench) cut() error {
	e, l, err := b.lab()
	if err != nil {
		return err
	}
	security, err := b.visit(e, "sam@example.com", net.IPv4(127, 0, 2, 1))
	if err != nil {
		return err
	}
	defer security.leave()
	reviewer, err := b.visit(e, "carol@example.com", net.IPv4(127, 0, 2, 2))
	if err != nil {
		return err
	}
	defer reviewer.leave()
	people, err := b.newcomers(e, 1)
	if err != nil {
		return err
	}
	defer people[0].leave()
	live, err := b.openVictims(e, l, people[0])
	if err != nil {
		return err
	}
	defer live.close()
	from := time.Now()
	receipt, err := security.Revoke(b.ctx, api.RevokeRequest{Subject: api.SubjectUser, ID: people[0].email, Reason: "bench"})
	if err != nil {
		return err
	}
	hosts := time.Since(from)
	each, err := live.cutAfter(from)
	if err != nil {
		return err
	}
	reported, err := b.endsOf(reviewer, people[0].email, receipt.Index)
	if err != nil {
		return err
	}
	b.add(result("revoke.cut", millis(quantile(each, 0.99)), "ms").atMost(maxCut), result("revoke.cut.p50", millis(median(each)), "ms"),
		result("revoke.cut.last", millis(quantile(each, 1)), "ms"), result("revoke.cut.hosts", millis(hosts), "ms"),
		result("revoke.cut.reported", millis(reported.Sub(from)), "ms"))
	return nil
}

// visit logs one of the people of dev.json in.
func (b *bench) visit(e *environment, email string, from net.IP) (*person, error) {
	who, err := e.someone(email)
	if err != nil {
		return nil, err
	}
	return e.login(b.ctx, who, from)
}

func (b *bench) openVictims(e *environment, l *sshLab, p *person) (liveSessions, error) {
	signer, err := l.certify(b.ctx, p, "victim")
	if err != nil {
		return nil, err
	}
	return b.openSessions(cutSessions, func() (*liveSession, error) { return l.throughBastion(e, signer) })
}

// cutAfter returns how long after a moment each session has ended.
func (l liveSessions) cutAfter(from time.Time) ([]time.Duration, error) {
	var out []time.Duration
	deadline := time.After(cutTime)
	for _, s := range l {
		select {
		case <-s.ended:
			out = append(out, s.at.Sub(from))
		case <-deadline:
			return nil, errors.New("a session lives on after the revocation")
		}
	}
	return out, nil
}

// endsOf follows the log behind a revocation until it has the ends of all sessions that were cut, each once, and returns
// when that was.
func (b *bench) endsOf(reviewer *person, email string, after int64) (time.Time, error) {
	ctx, cancel := context.WithTimeout(b.ctx, cutTime)
	defer cancel()
	seen := map[string]bool{}
	query := url.Values{api.ParamQuery: {"kind:session.end outcome:revoked user:" + email}, api.ParamAfter: {strconv.FormatInt(after, 10)}, api.ParamFollow: {"1"}}
	for e, err := range reviewer.Events(ctx, query) {
		if err != nil {
			return time.Time{}, fmt.Errorf("the log has the ends of %d sessions: %w", len(seen), err)
		}
		var end audit.Event
		if err := json.Unmarshal(e.Envelope, &end); err != nil {
			return time.Time{}, err
		}
		if seen[end.SessionID] || end.Reason != "access revoked: bench" {
			return time.Time{}, fmt.Errorf("session %s has ended more than once, or for another reason: %q", end.SessionID, end.Reason)
		}
		if seen[end.SessionID] = true; len(seen) == cutSessions {
			return time.Now(), nil
		}
	}
	return time.Time{}, fmt.Errorf("the log has the ends of %d sessions, of %d that were cut", len(seen), cutSessions)
}

// liveSession is a terminal on the host in which nothing is typed.
type liveSession struct {
	client *ssh.Client
	outer  *ssh.Client   // of a jump host; may be nil
	ended  chan struct{} // closed when the session's channel has ended
	at     time.Time     // when that was
}

type liveSessions []*liveSession

func (s *liveSession) close() {
	_ = s.client.Close()
	if s.outer != nil {
		_ = s.outer.Close()
	}
	<-s.ended
}

func (l liveSessions) close() {
	for _, s := range l {
		if s != nil {
			s.close()
		}
	}
}

func (b *bench) openSessions(n int, open func() (*liveSession, error)) (liveSessions, error) {
	out := make(liveSessions, n)
	g, ctx := errgroup.WithContext(b.ctx)
	g.SetLimit(opening)
	for i := range out {
		g.Go(func() (err error) {
			if ctx.Err() == nil {
				out[i], err = open()
			}
			return err
		})
	}
	err := errors.Join(g.Wait(), context.Cause(b.ctx))
	if err != nil {
		out.close()
	}
	return out, err
}

func (l *sshLab) clientConfig(user string, signer ssh.Signer) *ssh.ClientConfig {
	return &ssh.ClientConfig{Config: ssh.Config{Ciphers: []string{cipher}, KeyExchanges: []string{keyExchange}}, User: user,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: l.trust, Timeout: 30 * time.Second}
}

func (l *sshLab) throughBastion(e *environment, signer ssh.Signer) (*liveSession, error) {
	conn, err := net.Dial("tcp", e.Bastion)
	if err != nil {
		return nil, err
	}
	return l.openShell(conn, "dev-bastion", l.clientConfig(l.login+"+"+e.Host.Name, signer), nil)
}

func (l *sshLab) throughJump() (*liveSession, error) {
	config := l.clientConfig(l.login, l.jumper)
	config.HostKeyCallback = ssh.InsecureIgnoreHostKey() // it is ours, on loopback
	outer, err := ssh.Dial("tcp", l.jump.addr, config)
	if err != nil {
		return nil, err
	}
	conn, err := outer.Dial("tcp", l.host)
	if err != nil {
		return nil, errors.Join(err, outer.Close())
	}
	return l.openShell(conn, "dev-host", l.clientConfig(l.login, l.hop), outer)
}

// openShell opens a terminal with a program that waits for input.
func (l *sshLab) openShell(conn net.Conn, name string, config *ssh.ClientConfig, outer *ssh.Client) (*liveSession, error) {
	c, chans, reqs, err := ssh.NewClientConn(conn, name+":22", config)
	if err != nil {
		return nil, err
	}
	s := &liveSession{client: ssh.NewClient(c, chans, reqs), outer: outer, ended: make(chan struct{})}
	session, err := s.client.NewSession()
	if err != nil {
		return nil, err
	}
	if _, err := session.StdinPipe(); err != nil {
		return nil, err
	}
	if err := session.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
		return nil, err
	}
	if err := session.Start("cat"); err != nil {
		return nil, err
	}
	go func() { // ends with the session, which close ends
		_ = session.Wait()
		s.at = time.Now()
		close(s.ended)
		_ = c.Close() // as ssh does
	}()
	return s, nil
}
