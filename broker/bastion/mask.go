package bastion

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
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

	refusedLife     = 10 * time.Second // how long the broker's no is repeated without asking it
	refusedCapacity = 4096             // of (login, host); more are asked for again
)

// masks holds the host keys that the bastion shows: its own, and one for each host that somebody
// reaches by `ssh -J`. Keys are made here, live in memory alone, and are as old as their certificate.
type masks struct {
	control Control
	name    string // of the bastion
	trust   func() *trust
	now     func() time.Time
	calls   *meter

	mu      sync.Mutex
	cache   map[string]*mask // by host; "" is the bastion's own
	refused map[wish]refusedMask
	revoked map[uint64]time.Time // serials of front certificates, until when at the latest one may live
}

// wish is a mask that a person wants. What the broker grants is for all; its no may be for one.
type wish struct{ login, host string }

type refusedMask struct {
	err   error
	until time.Time
}

// mask is one host key with its certificate; made is closed when signer or err stand.
type mask struct {
	made   chan struct{}
	signer ssh.Signer
	serial uint64
	until  time.Time
	err    error
}

func newMasks(c Control, name string, trust func() *trust, now func() time.Time, calls *meter) *masks {
	return &masks{control: c, name: name, trust: trust, now: now, calls: calls, cache: map[string]*mask{}, refused: map[wish]refusedMask{}, revoked: map[uint64]time.Time{}}
}

// errMaskRevoked is for a certificate that was revoked while it was fetched.
var errMaskRevoked = errors.New("the host certificate was revoked at once")

// revoke takes a front certificate out of use: whoever connects next is shown another one, by another key.
func (m *masks) revoke(serial uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	maps.DeleteFunc(m.revoked, func(_ uint64, until time.Time) bool { return now.After(until) })
	m.revoked[serial] = now.Add(maskLongest)
}

// isRevoked reports whether an entry that is made holds what was revoked; the caller holds mu.
func (m *masks) isRevoked(e *mask) bool {
	_, revoked := m.revoked[e.serial]
	return revoked
}

// own returns the signer for the bastion itself.
func (m *masks) own(ctx context.Context) (ssh.Signer, error) { return m.get(ctx, "", nil) }

// get returns the signer for host, which h wants. Callers that ask for the same
// host at once wait for one certificate; where another's call fails, each asks for itself.
func (m *masks) get(ctx context.Context, host string, h *holder) (ssh.Signer, error) {
	if host == m.name {
		return nil, fmt.Errorf("%s is the bastion itself", host)
	}
	for {
		if err := m.refusal(host, h); err != nil {
			return nil, err
		}
		if entry := m.cached(host); entry != nil {
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-entry.made:
			}
			if entry.err == nil {
				return entry.signer, nil
			}
			continue
		}
		if signer, mine, err := m.ask(ctx, host, h); mine || err != nil {
			return signer, err
		}
	}
}

// ask makes an entry and fills it when it is h's turn. Nobody waits for another's turn: without
// mine somebody else has made the entry meanwhile.
func (m *masks) ask(ctx context.Context, host string, h *holder) (signer ssh.Signer, mine bool, err error) {
	call := func() error {
		if m.refusal(host, h) != nil { // it has come while this call waited for its turn
			return nil
		}
		var entry *mask
		if entry, mine = m.entry(host); !mine {
			return nil
		}
		m.fill(ctx, host, h, entry)
		signer = entry.signer
		return entry.err
	}
	if h == nil {
		err = call()
	} else {
		err = m.calls.ask(ctx, h.login, call)
	}
	return signer, mine, err
}

// refusal returns what the broker has just answered to the same wish, where that was no.
func (m *masks) refusal(host string, h *holder) error {
	if h == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if no, ok := m.refused[wish{h.login, host}]; ok && m.now().Before(no.until) {
		return no.err
	}
	return nil
}

// noteRefusal remembers a no of the broker. Other failures may be over in a moment.
func (m *masks) noteRefusal(host string, h *holder, err error) {
	if h == nil || !saidNo(err) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if len(m.refused) >= refusedCapacity {
		maps.DeleteFunc(m.refused, func(_ wish, no refusedMask) bool { return !now.Before(no.until) })
	}
	if len(m.refused) < refusedCapacity {
		m.refused[wish{h.login, host}] = refusedMask{err, now.Add(refusedLife)}
	}
}

// cached returns an entry that is fresh or being made, or nil.
func (m *masks) cached(host string) *mask {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.cache[host]; e != nil && m.usable(e) {
		return e
	}
	return nil
}

// entry returns what is fresh or being made, or a new entry that the caller must fill.
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
		return e.err == nil && !m.isRevoked(e) && m.now().Before(e.until.Add(-maskMargin)) && m.trusts(e.signer)
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

func (m *masks) fill(ctx context.Context, host string, h *holder, e *mask) {
	defer close(e.made)
	// Others may wait for this entry: the caller's going must not fail them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maskTimeout)
	defer cancel()
	e.signer, e.until, e.err = m.make(ctx, host, h)
	if e.err == nil {
		e.serial = e.signer.PublicKey().(*ssh.Certificate).Serial // as accept has made it
		m.mu.Lock()
		revoked := m.isRevoked(e)
		m.mu.Unlock()
		if !revoked {
			return
		}
		e.signer, e.err = nil, errMaskRevoked
	}
	m.noteRefusal(host, h, e.err)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cache[host] == e {
		delete(m.cache, host)
	}
}

func (m *masks) make(ctx context.Context, host string, h *holder) (ssh.Signer, time.Time, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, time.Time{}, err
	}
	plain, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, time.Time{}, err
	}
	r := api.FrontRequest{PublicKey: sshca.MarshalLine(plain.PublicKey()), Host: host}
	if h != nil {
		if r.AccessSerial = h.serial(); h.cert == nil {
			r.AccessKey = h.fingerprint()
		}
	}
	answer, err := m.control.Front(ctx, r)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("host certificate: %w", err)
	}
	name := host
	if name == "" {
		name = m.name
	}
	return m.accept(plain, answer.Certificate, name)
}

// trusts reports whether the CA of a certificate is trusted still: one that was retired before its time vouches for nobody.
func (m *masks) trusts(signer ssh.Signer) bool {
	cert, ok := signer.PublicKey().(*ssh.Certificate)
	return ok && m.trust().front.Has(cert.SignatureKey)
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
