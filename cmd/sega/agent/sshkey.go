package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

// keyLeft is how long a certificate must still live to be shown to a bastion.
const keyLeft = 2 * time.Minute

// heldKey is the SSH key of a login, made anew with every certificate.
type heldKey struct {
	making sync.Mutex // held while one is made, so that one is made for however many ask

	mu       sync.Mutex
	key      *Key
	standing string // under which it was certified

	revoked map[uint64]bool // serials that the feed has named: one of them may be on its way still
}

// drop forgets the key and returns how many there were.
func (h *heldKey) drop() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.key == nil {
		return 0
	}
	clear(h.key.Private)
	h.key = nil
	return 1
}

// dropCertificate drops the key where its certificate was revoked: the login goes on, and whoever asks next gets another.
func (l *life) dropCertificate(r api.Revocation) {
	if r.Profile != api.ProfileAccess {
		return
	}
	l.ssh.mu.Lock()
	if l.ssh.revoked == nil {
		l.ssh.revoked = map[uint64]bool{}
	}
	l.ssh.revoked[r.Serial] = true
	held := l.ssh.key != nil && l.ssh.key.Certificate.Serial == r.Serial
	l.ssh.mu.Unlock()
	if held {
		l.ssh.drop()
	}
	l.logger.Info("an SSH certificate of this login was revoked", "serial", r.Serial, "held", held, "reason", r.Reason)
}

// sshKey returns the login's key. A certificate that was given under another standing, or that nobody knows
// to stand, is got anew: the broker decides again. So is one for a reason or a ticket of its own.
func (l *life) sshKey(ctx context.Context, reason, ticket string) (Key, error) {
	l.ssh.making.Lock()
	defer l.ssh.making.Unlock()
	if k, ok := l.warmKey(); ok && reason == "" && ticket == "" {
		return k, nil
	}
	ctx, cancel := context.WithTimeout(ctx, keyTime)
	defer cancel()
	standing := l.standing()
	made, err := NewKey(ctx, func(ctx context.Context, public ssh.PublicKey) (*ssh.Certificate, error) {
		return l.certify(ctx, public, reason, ticket)
	})
	if err != nil {
		return Key{}, err
	}
	l.ssh.mu.Lock()
	defer l.ssh.mu.Unlock()
	if l.ctx.Err() != nil {
		return Key{}, context.Cause(l.ctx)
	}
	l.ssh.key, l.ssh.standing = &made, standing
	return made.copy(), nil
}

// until is when the certificate that is held ends; the zero time where none is.
func (h *heldKey) until() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.key == nil {
		return time.Time{}
	}
	return time.Unix(int64(h.key.Certificate.ValidBefore), 0).UTC()
}

func (l *life) warmKey() (Key, bool) {
	now, leased, standing := l.clock.now(), l.clock.leased(), l.standing()
	l.ssh.mu.Lock()
	defer l.ssh.mu.Unlock()
	k := l.ssh.key
	if k == nil || l.ssh.revoked[k.Certificate.Serial] || !leased || l.ssh.standing != standing || time.Unix(int64(k.Certificate.ValidBefore), 0).Sub(now) < keyLeft || l.ctx.Err() != nil {
		return Key{}, false
	}
	return k.copy(), true
}

// copy keeps a key from under the hands of whoever drops it.
func (k Key) copy() Key {
	k.Private = append(k.Private[:0:0], k.Private...)
	return k
}

// certify has a key certified for the login.
func (l *life) certify(ctx context.Context, public ssh.PublicKey, reason, ticket string) (*ssh.Certificate, error) {
	answer, err := l.login.Certificate(ctx, api.CertificateRequest{PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), Reason: reason, Ticket: ticket})
	if err != nil {
		return nil, err
	}
	return sshca.ParseCertificate(answer.Certificate)
}

// frontCAs are the CAs whose host keys are bastions'.
func (l *life) frontCAs() (sshca.Bundle, error) {
	return sshca.ParseBundle(l.frontLines())
}

// frontLines are these CAs as the feed told them last, before its first word as the login knows them.
func (l *life) frontLines() []string {
	l.mu.Lock()
	lines := l.front
	l.mu.Unlock()
	if lines == nil {
		lines = l.login.FrontCAs()
	}
	return lines
}

// ensureSSH makes sure of a key before OpenSSH asks for it: what fails is said by whoever asked, not by ssh.
func (s *Server) ensureSSH(ctx context.Context, r Request) Reply {
	l, err := s.forBroker(ctx, r.Broker)
	if err == nil {
		_, err = l.sshKey(ctx, r.Reason, r.Ticket)
	}
	if err != nil {
		return s.failed(err)
	}
	return Reply{FrontCAs: l.frontLines()}
}

// serveSSH answers one of OpenSSH's programs with the key of whoever is logged in.
func (s *Server) serveSSH(ctx context.Context, conn *net.UnixConn) {
	defer func() { _ = conn.Close() }()
	if uid, pid, err := peer(conn); err != nil || uid != os.Getuid() {
		s.cfg.Logger.Warn("somebody else asked for the SSH key", "uid", uid, "pid", pid, "error", err)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	s.touch()
	ring := &Keyring{
		Key: func(ctx context.Context) (Key, error) {
			l, err := s.current(ctx)
			if err != nil {
				return Key{}, err
			}
			return l.sshKey(ctx, "", "")
		},
		Front: func() (sshca.Bundle, error) {
			l, err := s.current(ctx)
			if err != nil {
				return sshca.Bundle{}, err
			}
			return l.frontCAs()
		},
		Now: func() time.Time {
			if l, err := s.current(ctx); err == nil {
				return l.clock.now()
			}
			return time.Time{} // before anything is valid
		},
	}
	if err := ring.Serve(conn); !errors.Is(err, io.EOF) && ctx.Err() == nil {
		s.cfg.Logger.Info("an SSH client was let go", "error", err)
	}
}
