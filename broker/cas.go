package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// Names of the CAs in the records of keys and serials; also the profile of a certificate's record.
const (
	caAccess = "access"
	caHop    = "hop"
	caFront  = "front"
	caHost   = "host"
)

// caNames are all of them, in the order in which people read them.
var caNames = []string{caAccess, caHop, caFront, caHost}

// caStale is how old the knowledge of which key signs may be. A broker that cannot read it for longer signs nothing:
// so a rotation knows when at the latest the old key has signed its last certificate.
const caStale = 10 * time.Second

// caTell is how often a broker says that it runs, and what it knows of the CAs.
const caTell = 30 * time.Second

// caReread is how often the configuration is read while it lacks a key that signs or will, and caRereadRest while it lacks another that the
// database has: each of its keys that is a file takes a good part of a second to decrypt.
const (
	caReread     = 10 * time.Second
	caRereadRest = time.Minute
)

// kindBroker is the kind of a broker among those who have seen a trust.
const kindBroker = "broker"

// cas are the CAs as this broker knows them. What is in force changes as a whole.
type cas struct {
	mu     sync.Mutex          // one refresh at a time; held while the database is asked, so the committer must not want it
	ring   atomic.Pointer[CAs] // as last opened
	told   int64               // version that the database has of us
	toldAt time.Time
	now    atomic.Pointer[caState]
	health caHealth

	reread   int64 // version for which the configuration was read anew last
	rereadAt time.Time
	foreign  []string // keys of the database of which it was said last that they are not trusted
}

// caState is what one look at the database gave. It does not change.
type caState struct {
	trust   *api.Trust            // the same as before where nothing in it has changed
	version int64                 // of the bundles, by the database
	keys    []state.CAKey         // retired ones too
	foreign []state.CAKey         // those that this broker's configuration does not name: trusted by nobody
	signing map[string]ssh.Signer // by CA: the key that is current; lacks those that this broker does not hold
	missing map[string]string     // by CA: the next key, where this broker does not hold it
	read    time.Time             // by the process's own clock
}

// of are the keys that a CA has in its bundle, the one that signs first. A key that stands in the database alone is none of them.
func (n *caState) of(ca string, ring CAs) []string {
	lines := []string{}
	for _, phase := range []string{state.CACurrent, state.CANext, state.CAOld, state.CABeside} {
		for _, k := range n.keys {
			if k.CA == ca && k.Phase == phase && ring.names(k) {
				lines = append(lines, k.Key)
			}
		}
	}
	return lines
}

// signers are the keys that the configuration names for a CA.
func (c CAs) signers(ca string) []ssh.Signer {
	return map[string][]ssh.Signer{caAccess: c.Access, caHop: c.Hop, caFront: c.Front, caHost: c.Host}[ca]
}

// beside are the keys that are trusted and never sign.
func (c CAs) beside(ca string) []ssh.PublicKey {
	return map[string][]ssh.PublicKey{caAccess: c.MoreAccess, caHop: c.MoreHop, caFront: c.MoreFront, caHost: c.MoreHost}[ca]
}

// find returns the signer of a public key, as it stands in the records.
func (c CAs) find(ca, key string) ssh.Signer {
	for _, s := range c.signers(ca) {
		if sshca.MarshalLine(s.PublicKey()) == key {
			return s
		}
	}
	return nil
}

// names reports whether the configuration vouches for a key of the database, with what the database says that it is for. Whoever can write
// there could else have hosts and bastions trust a key of his own.
func (c CAs) names(k state.CAKey) bool {
	return c.trustsBeside(k.CA, k.Key) || k.Phase != state.CABeside && (c.find(k.CA, k.Key) != nil || slices.Contains(c.shut(k.CA), k.Key))
}

// shut are the keys of a CA that the configuration names and that do not open, as lines.
func (c CAs) shut(ca string) (lines []string) {
	for _, k := range c.Shut {
		if k.CA == ca {
			lines = append(lines, sshca.MarshalLine(k.Key))
		}
	}
	return lines
}

// check refuses keys that stand for two CAs: their certificates would be good where the other's are.
func (c CAs) check() error {
	owner := map[string]string{}
	for _, ca := range caNames {
		if len(c.signers(ca)) == 0 {
			return fmt.Errorf("broker: no %s CA configured", ca)
		}
		for _, line := range c.lines(ca) {
			if other, taken := owner[line]; taken && other != ca {
				return fmt.Errorf("broker: the %s CA and the %s CA have a key in common", other, ca)
			}
			owner[line] = ca
		}
	}
	return nil
}

// lines are all keys that the configuration names for a CA.
func (c CAs) lines(ca string) (lines []string) {
	for _, s := range c.signers(ca) {
		lines = append(lines, sshca.MarshalLine(s.PublicKey()))
	}
	for _, k := range c.beside(ca) {
		lines = append(lines, sshca.MarshalLine(k))
	}
	return append(lines, c.shut(ca)...)
}

// trust is the bundle that machines work with, as this broker knows it.
func (s *Server) trust() *api.Trust { return s.cas.now.Load().trust }

// authority returns the key that signs for a CA now, or why nothing is signed.
func (s *Server) authority(ctx context.Context, ca string) (ssh.Signer, error) {
	now := s.cas.now.Load()
	if time.Since(now.read) > caStale {
		if err := s.RefreshCAs(ctx); err != nil {
			return nil, unavailable(err)
		}
		now = s.cas.now.Load()
	}
	signer := now.signing[ca]
	if signer == nil {
		return nil, api.Errorf(api.KindUnavailable, "the key that signs for the %s CA is not among those of this broker", ca).
			WithHint("the operators must name it in the broker's configuration (segad ca list)")
	}
	return signer, nil
}

// RefreshCAs takes up what has become of the CAs' keys in the database, where other brokers may have changed it. A key that
// this broker does not hold yet makes it read its configuration anew.
func (s *Server) RefreshCAs(ctx context.Context) error {
	c := &s.cas
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &caState{read: time.Now()}
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		if next.version, err = state.TrustVersion(ctx, tx); err != nil {
			return err
		}
		next.keys, err = state.CAKeys(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	if c.now.Load() == nil { // the start has just read it
		c.reread, c.rereadAt = next.version, time.Now()
	}
	if every := c.ring.Load().lacks(next); s.ReloadCAs != nil && every > 0 && (c.reread != next.version || time.Since(c.rereadAt) >= every) {
		s.reloadCAs(ctx)
		c.reread, c.rereadAt = next.version, time.Now()
	}
	next.arrange(*c.ring.Load())
	was := c.now.Load()
	if was != nil && sameTrust(was.trust, next.trust) {
		next.trust = was.trust
	}
	c.now.Store(next)
	if was == nil || was.trust != next.trust {
		s.hub.notify()
	}
	s.sayForeign(next)
	return s.tellCAs(ctx, next)
}

// sameTrust reports whether two bundles say the same. They may differ within one version: of a key that this broker did not have yet.
func sameTrust(a, b *api.Trust) bool {
	return a.Version == b.Version && slices.Equal(a.AccessCAs, b.AccessCAs) && slices.Equal(a.HostCAs, b.HostCAs) && slices.Equal(a.FrontCAs, b.FrontCAs) && slices.Equal(a.HopCAs, b.HopCAs)
}

// sayForeign says which keys of the database are not trusted, when they change. It is called by one at a time.
func (s *Server) sayForeign(n *caState) {
	var lines []string
	for _, k := range n.foreign {
		lines = append(lines, k.CA+" "+k.Phase+" "+k.Key)
	}
	if slices.Equal(lines, s.cas.foreign) {
		return
	}
	s.cas.foreign = lines
	for _, k := range n.foreign {
		s.Logger.Error("a key of a CA stands in the database and not in this broker's configuration: nobody is told to trust it", "ca", k.CA, "phase", k.Phase, "key", fingerprint(k.Key), "next", "segad ca list")
	}
}

// reloadCAs reads the configuration anew. What it cannot open is as if it were not there.
func (s *Server) reloadCAs(ctx context.Context) {
	ring, err := s.ReloadCAs(ctx)
	if err == nil {
		err = ring.check()
	}
	if err != nil {
		s.Logger.Error("the keys of the CAs were not read anew", "error", err)
		return
	}
	s.cas.ring.Store(&ring)
}

// lacks returns how soon to look whether the configuration has what it lacks of the database's keys; 0 where it lacks nothing.
func (c CAs) lacks(n *caState) (every time.Duration) {
	for _, k := range n.keys {
		signs := k.Phase == state.CACurrent || k.Phase == state.CANext
		switch {
		case signs && c.find(k.CA, k.Key) == nil:
			return caReread
		case k.Phase != state.CARetired && !c.names(k):
			every = caRereadRest
		}
	}
	return every
}

// arrange sorts the keys into bundles and signers.
func (n *caState) arrange(ring CAs) {
	n.trust = &api.Trust{Version: n.version, AccessCAs: n.of(caAccess, ring), HostCAs: n.of(caHost, ring), FrontCAs: n.of(caFront, ring), HopCAs: n.of(caHop, ring)}
	n.signing, n.missing = map[string]ssh.Signer{}, map[string]string{}
	for _, k := range n.keys {
		signer := ring.find(k.CA, k.Key)
		if k.Phase != state.CARetired && !ring.names(k) {
			n.foreign = append(n.foreign, k)
		}
		switch {
		case k.Phase == state.CACurrent && signer != nil:
			n.signing[k.CA] = signer
		case k.Phase == state.CANext && signer == nil:
			n.missing[k.CA] = k.Key
		}
	}
}

// seen is the version that this broker has in force: that of before the first next key that it does not hold.
func (n *caState) seen() int64 {
	version := n.version
	for _, k := range n.keys {
		if k.Phase == state.CANext && n.missing[k.CA] == k.Key {
			version = min(version, k.Version-1)
		}
	}
	return version
}

// tellCAs records what this broker has in force, and for how long what it signs lives: when that changes, and now and then so that a rotation
// knows that it runs. So of each key that may sign here both are known before a rotation goes on.
func (s *Server) tellCAs(ctx context.Context, n *caState) error {
	c, version := &s.cas, n.seen()
	if c.told == version && (!s.Peers || time.Since(c.toldAt) < caTell) {
		return nil
	}
	_, err := s.Log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		for _, k := range n.keys {
			if life := s.certLife(k.CA); life > 0 && (k.Phase == state.CACurrent || k.Phase == state.CANext) {
				if err := state.KeepCALife(ctx, tx, k.Key, life); err != nil {
					return err
				}
			}
		}
		return state.SawTrust(ctx, tx, state.Seen{Machine: "node/" + s.Node, Name: s.Node, Kind: kindBroker, Version: version, At: s.Now()})
	})
	if err == nil {
		c.told, c.toldAt = version, time.Now()
	}
	return err
}

// KeepCAs refreshes the CAs and tries those again whose key has failed, until ctx ends.
func (s *Server) KeepCAs(ctx context.Context) error {
	look, try := time.NewTicker(s.Times.Heartbeat), time.NewTicker(caStale/2)
	defer look.Stop()
	defer try.Stop()
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-try.C:
			s.tryCAs()
			continue
		case <-look.C:
		}
		text := ""
		if err := s.RefreshCAs(ctx); err != nil && ctx.Err() == nil {
			if text = err.Error(); text != failed {
				s.Logger.Error("what became of the CAs is not known", "error", err)
			}
		}
		failed = text
	}
}

// caHealth knows which CAs' keys did not sign when they were asked last.
type caHealth struct {
	mu      sync.Mutex
	failing map[string]error
}

func (h *caHealth) note(ca string, err error) (was error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was = h.failing[ca]
	if err == nil {
		delete(h.failing, ca)
		return was
	}
	if h.failing == nil {
		h.failing = map[string]error{}
	}
	h.failing[ca] = err
	return was
}

func (h *caHealth) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.failing))
}

// sign signs with a CA's key. Where the key fails, be it that its HSM is gone, its agent locked or its service throttled, nothing
// is issued and /readyz says so.
func (s *Server) sign(cert *ssh.Certificate, profile sshca.Profile, ca string, signer ssh.Signer) error {
	err := sshca.Sign(cert, profile, signer)
	if err != nil && !errors.Is(err, sshca.ErrSigner) {
		return api.Errorf(api.KindInternal, "the certificate was not signed").WithCause(err)
	}
	s.noteCA(ca, err)
	if err != nil {
		return api.Errorf(api.KindUnavailable, "the key of the %s CA does not sign, so nothing is issued", ca).
			WithHint("the operators must look after the key; service resumes by itself").WithCause(err)
	}
	return nil
}

func (s *Server) noteCA(ca string, err error) {
	was := s.cas.health.note(ca, err)
	switch {
	case err != nil && was == nil:
		s.Logger.Error("the key of a CA does not sign", "ca", ca, "error", err)
	case err == nil && was != nil:
		s.Logger.Info("the key of a CA signs again", "ca", ca)
	}
}

// tryCAs tries the keys that have failed, so that a broker to which nobody is sent any more becomes ready again.
func (s *Server) tryCAs() {
	now := s.cas.now.Load()
	for _, ca := range s.cas.health.list() {
		if signer := now.signing[ca]; signer != nil {
			s.noteCA(ca, sshca.TrySigner(signer))
		}
	}
}

// caReadiness says which CA cannot sign.
func (s *Server) caReadiness() error {
	now := s.cas.now.Load()
	for _, ca := range caNames {
		if now.signing[ca] == nil {
			return fmt.Errorf("the key that signs for the %s CA is not among those of this broker", ca)
		}
	}
	if failing := s.cas.health.list(); len(failing) > 0 {
		return fmt.Errorf("the key of the %s CA does not sign: see the broker's log", failing[0])
	}
	return nil
}

// fingerprint is how people know a key, given its line.
func fingerprint(line string) string {
	key, err := sshca.ParseKey(line)
	if err != nil {
		return "?"
	}
	return ssh.FingerprintSHA256(key)
}
