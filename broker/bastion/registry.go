package bastion

import (
	"slices"
	"sync"

	"sega/audit/recording"
	"sega/broker/api"
)

// subject is what a revocation can name about a connection. Empty fields are unknown.
type subject struct {
	issuer, subject string
	login           string // ses_…
	session         string // ssh_…
	outer           bool   // of ssh -J: its person is known only when the broker has named him
	host            string // by its name in the inventory

	// Serials of the certificates that it stands on: the person's, the session's own, and the host's, which is known
	// once the host has shown it.
	access, hop, hostCert uint64
}

// hitBy reports whether a revocation touches s. One that names its subject in no form that this
// bastion knows touches everybody: to acknowledge it and cut nothing would be a lie. An outer
// connection whose person is unknown carries no session yet, and may be anybody's: it costs a second
// attempt.
func (s subject) hitBy(r api.Revocation) bool {
	switch {
	case r.SessionID != "":
		return r.SessionID == s.session
	case r.LoginID != "":
		return r.LoginID == s.login
	case r.Profile != "" && r.Serial != 0:
		return s.standsOn(r.Profile, r.Serial)
	case r.Host != "":
		return r.Host == s.host
	case r.Issuer != "" && r.Subject != "":
		return r.Issuer == s.issuer && r.Subject == s.subject || s.outer && s.issuer == ""
	}
	return true
}

// standsOn reports whether a certificate is one of s. Of a profile that this bastion does not know it may be.
func (s subject) standsOn(profile string, serial uint64) bool {
	switch profile {
	case api.ProfileAccess:
		return serial == s.access
	case api.ProfileHop:
		return serial == s.hop
	case api.ProfileHost:
		return serial == s.hostCert
	case api.ProfileFront:
		return false // the bastion's own, and its masks': no session stands on them
	}
	return true
}

// live is a connection that can be cut (cutting).
type live struct {
	subject subject
	session bool                          // a session to a host, counted in acknowledgements; else an outer connection of ssh -J
	head    func() (recording.Head, bool) // of its recording; nil for an outer connection
	failed  func(on string) []api.Report  // something that it rests on has failed (api.OnBroker, …), and what is to be reported of that; nil for an outer connection
	mended  func(on string) []api.Report
	halted  func() []string // what keeps it from going on
	told    func(string)    // says something on its terminals

	// sever ends it at once: nothing flows any more when it returns, and what costs time waits for the channel. False: it
	// was ending already.
	sever  func(endReason, <-chan struct{}) bool
	parted <-chan struct{} // closed when the person has been told; nil for an outer connection
	hangUp func()          // closes the side of the host; nil for an outer connection
}

// claim stands for a connection that is about to ask the broker. It collects the revocations that
// arrive between the question and the registration of the answer, so that none slips between.
type claim struct{ missed []api.Revocation }

// registry holds everything that a revocation or the end of the lease must reach.
type registry struct {
	steps sync.Mutex // held while a step is carried out and reported

	mu     sync.Mutex
	live   map[*live]struct{}
	claims map[*claim]struct{}
	hosts  map[uint64]struct{} // serials of host certificates that were revoked since the start; what was before comes with each hop
}

func newRegistry() *registry {
	return &registry{live: map[*live]struct{}{}, claims: map[*claim]struct{}{}, hosts: map[uint64]struct{}{}}
}

// claim must come before the broker is asked; release or admit ends it.
func (r *registry) claim() *claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &claim{}
	r.claims[c] = struct{}{}
	return c
}

func (r *registry) release(c *claim) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.claims, c)
}

// admit turns a claim into a live entry, or returns the revocation that arrived meanwhile and hits it.
func (r *registry) admit(c *claim, l *live) *api.Revocation {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.claims, c)
	for i := range c.missed {
		if l.subject.hitBy(c.missed[i]) {
			return &c.missed[i]
		}
	}
	r.live[l] = struct{}{}
	return nil
}

// remove waits for a step under way: what it reports of l comes before what the caller does.
func (r *registry) remove(l *live) {
	r.steps.Lock()
	defer r.steps.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, l)
}

// revoke cuts what a revocation touches. When it returns, nothing of that reaches a host any more, and no claim that it
// touches can be admitted.
func (r *registry) revoke(rev api.Revocation) *cutting {
	r.mu.Lock()
	for c := range r.claims {
		c.missed = append(c.missed, rev)
	}
	if rev.Profile == api.ProfileHost {
		r.hosts[rev.Serial] = struct{}{}
	}
	r.mu.Unlock()
	return r.cut(func(s subject) bool { return s.hitBy(rev) }, revokedBy(rev))
}

// showed records which certificate the host of a session has shown, and reports whether it may stand on it: a revocation
// of the certificate finds the session from then on, or came before.
func (r *registry) showed(l *live, serial uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, revoked := r.hosts[serial]; revoked {
		return false
	}
	l.subject.hostCert = serial
	return true
}

// hostCert is the certificate that the host of a session has shown; 0 where it has shown none.
func (r *registry) hostCert(l *live) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.subject.hostCert
}

// identify tells who holds an outer connection.
func (r *registry) identify(outer *live, p api.Person) {
	if outer == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	outer.subject.issuer, outer.subject.subject = p.Issuer, p.Subject
}

func (r *registry) matching(match func(subject) bool) []*live {
	r.mu.Lock()
	defer r.mu.Unlock()
	var hit []*live
	for l := range r.live {
		if match(l.subject) {
			hit = append(hit, l)
		}
	}
	slices.SortFunc(hit, func(a, b *live) int { return order(a) - order(b) })
	return hit
}

func order(l *live) int {
	if l.session {
		return 0
	}
	return 1
}

// outers counts the outer connections of a login.
func (r *registry) outers(login string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.live {
		if l.subject.outer && l.subject.login == login {
			n++
		}
	}
	return n
}

func everybody(subject) bool { return true }
