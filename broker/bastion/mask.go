package bastion

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

const (
	maskMargin   = 5 * time.Minute // renewed when less is left
	maskLongest  = time.Hour
	maskTimeout  = 10 * time.Second
	maskCapacity = 4096 // hosts; the least recently made go first
)

// masks holds the host keys that the bastion shows: its own, and one for each host that somebody
// reaches by `ssh -J`. Keys are made here, live in memory alone, and are as old as their certificate.
type masks struct {
	control Control
	name    string // of the bastion
	trust   func() *trust
	now     func() time.Time

	mu    sync.Mutex
	cache map[string]*mask // by host; "" is the bastion's own
}

// mask is one host key with its certificate; made is closed when signer or err stand.
type mask struct {
	made   chan struct{}
	signer ssh.Signer
	until  time.Time
	err    error
}

func newMasks(c Control, name string, trust func() *trust, now func() time.Time) *masks {
	return &masks{control: c, name: name, trust: trust, now: now, cache: map[string]*mask{}}
}

// get returns the signer for host, or for the bastion itself where host is empty. Callers that ask
// for the same host at once wait for one certificate.
func (m *masks) get(ctx context.Context, host string) (ssh.Signer, error) {
	if host == m.name {
		return nil, fmt.Errorf("%s is the bastion itself", host)
	}
	entry, mine := m.entry(host)
	if mine {
		m.fill(ctx, host, entry)
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-entry.made:
	}
	return entry.signer, entry.err
}

// entry returns what is cached and fresh, or a new entry that the caller must fill.
func (m *masks) entry(host string) (e *mask, mine bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.cache[host]; e != nil && m.usable(e) {
		return e, false
	}
	m.evict()
	e = &mask{made: make(chan struct{})}
	m.cache[host] = e
	return e, true
}

func (m *masks) usable(e *mask) bool {
	select {
	case <-e.made:
		return e.err == nil && m.now().Before(e.until.Add(-maskMargin))
	default:
		return true // being made
	}
}

// evict drops what is stale, and if that is not enough anything that is made, but the bastion's own.
func (m *masks) evict() {
	if len(m.cache) < maskCapacity {
		return
	}
	for host, e := range m.cache {
		if host != "" && (!m.usable(e) || len(m.cache) >= maskCapacity) {
			delete(m.cache, host)
		}
	}
}

func (m *masks) fill(ctx context.Context, host string, e *mask) {
	defer close(e.made)
	// Others may wait for this entry: the caller's going must not fail them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maskTimeout)
	defer cancel()
	e.signer, e.until, e.err = m.make(ctx, host)
	if e.err == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cache[host] == e {
		delete(m.cache, host)
	}
}

func (m *masks) make(ctx context.Context, host string) (ssh.Signer, time.Time, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, time.Time{}, err
	}
	plain, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, time.Time{}, err
	}
	answer, err := m.control.Front(ctx, api.FrontRequest{PublicKey: sshca.MarshalLine(plain.PublicKey()), Host: host})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("host certificate: %w", err)
	}
	name := host
	if name == "" {
		name = m.name
	}
	return m.accept(plain, answer.Certificate, name)
}

// accept checks what the broker returned as a laptop would: a wrong certificate is better found here.
func (m *masks) accept(plain ssh.Signer, line, name string) (ssh.Signer, time.Time, error) {
	cert, err := sshca.ParseCertificate(line)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("host certificate of %s: %w", name, err)
	}
	now := m.now()
	if err := sshca.CheckHost(cert, m.trust().front, name, now); err != nil {
		return nil, time.Time{}, fmt.Errorf("host certificate of %s: %w", name, err)
	}
	signer, err := ssh.NewCertSigner(cert, plain)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("host certificate of %s: %w", name, err)
	}
	until := time.Unix(int64(cert.ValidBefore), 0)
	if most := now.Add(maskLongest); until.After(most) {
		until = most
	}
	return signer, until, nil
}
