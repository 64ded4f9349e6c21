package bastion

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/broker/api"
	"sega/sshca"
)

// authority is a test CA of one profile.
type authority struct {
	ssh.Signer
	profile sshca.Profile
	mu      sync.Mutex
	serial  uint32
}

func newAuthority(t testing.TB, p sshca.Profile) *authority {
	return &authority{Signer: newSigner(t), profile: p}
}

func (a *authority) next(t testing.TB) sshca.Serial {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	s, err := sshca.NewSerial(1, a.serial)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (a *authority) sign(t testing.TB, cert *ssh.Certificate, err error) *ssh.Certificate {
	t.Helper()
	if err == nil {
		err = sshca.Sign(cert, a.profile, a)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a *authority) line() string { return sshca.MarshalLine(a.PublicKey()) }

// testHost is a host of the fake broker's inventory.
type testHost struct {
	address string
	hostID  string
	keys    []string
}

// fakeControl is a broker that grants everything, unless told otherwise. It signs for real.
type fakeControl struct {
	t                         testing.TB
	access, hop, front, hosts *authority

	mu        sync.Mutex
	inventory map[string]testHost
	hops      []api.HopRequest
	reports   []api.Report
	acks      []api.Ack
	revoked   []api.Revocation
	afters    []int64
	fronts    []string
	leaseMS   int64
	notAfter  time.Duration
	idle      int
	forwards  api.HopForwards
	down      bool // the feed
	frontLife time.Duration
	keys      map[string]string // registered keys: ID by fingerprint; nil: there never was one
	keySets   int               // how often they changed
	strangers int               // questions about keys that are not registered
	changed   chan struct{}     // of capacity 1

	onHop     func(*api.Hop) error
	onReport  func(api.Report) error
	onChannel func(api.ChannelRequest) (api.ChannelGrant, error)
	onFront   func(api.FrontRequest) error
}

func newFakeControl(t testing.TB) *fakeControl {
	return &fakeControl{t: t, access: newAuthority(t, sshca.Access), hop: newAuthority(t, sshca.Hop),
		front: newAuthority(t, sshca.Front), hosts: newAuthority(t, sshca.Host), inventory: map[string]testHost{},
		leaseMS: 30_000, notAfter: time.Hour, frontLife: sshca.FrontLifetime, changed: make(chan struct{}, 1)}
}

func (f *fakeControl) set(change func()) {
	f.mu.Lock()
	change()
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *fakeControl) Hop(_ context.Context, r api.HopRequest) (api.Hop, error) {
	f.mu.Lock()
	host, ok := f.inventory[r.Host]
	f.hops = append(f.hops, r)
	onHop, notAfter, idle, forwards := f.onHop, f.notAfter, f.idle, f.forwards
	f.mu.Unlock()
	if !ok {
		return api.Hop{}, api.Errorf(api.KindNotFound, "no host %s", r.Host).WithHint("run `sega hosts`")
	}
	key, err := sshca.ParseKey(r.HopKey)
	if err != nil {
		return api.Hop{}, err
	}
	login := loginID
	if r.AccessSerial == 0 {
		if login, ok = f.keyID(r.AccessKey); !ok {
			return api.Hop{}, api.Errorf(api.KindDenied, "this key is not registered")
		}
	}
	id := api.NewID(api.IDSSH)
	after, before := sshca.Hop.Window(time.Now(), sshca.HopLifetime)
	cert, err := sshca.NewHop(sshca.HopParams{Key: key, Serial: f.hop.next(f.t), KeyID: sshca.KeyID{Session: id, Person: person},
		Login: r.Login, HostID: host.hostID, ValidAfter: after, ValidBefore: before, SourceAddresses: []string{"127.0.0.1"}, PTY: true,
		PortForwarding: forwards.Ports, AgentForwarding: forwards.Agent, X11Forwarding: forwards.X11})
	f.hop.sign(f.t, cert, err)
	answer := api.Hop{SessionID: id, Certificate: sshca.MarshalLine(cert), Address: host.address, HostID: host.hostID, HostKeys: host.keys,
		Person: api.Person{Issuer: issuer, Subject: subjectID, Email: person}, LoginID: login,
		NotAfter: time.Now().Add(notAfter), IdleSeconds: idle, Forwards: forwards}
	if onHop != nil {
		err = onHop(&answer)
	}
	return answer, err
}

func (f *fakeControl) Report(_ context.Context, reports []api.Report) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range reports {
		if f.onReport != nil {
			if err := f.onReport(r); err != nil {
				return err
			}
		}
		known := false
		for _, have := range f.reports {
			known = known || have.ID == r.ID
		}
		if !known {
			f.reports = append(f.reports, r)
		}
	}
	return nil
}

// Kinds of the events of Channel's decisions.
const (
	kindCommand = "session.command"
	kindForward = "forward.open"
)

// Channel allows everything and keeps the decision as the broker's log would, unless onChannel decides.
func (f *fakeControl) Channel(ctx context.Context, r api.ChannelRequest) (api.ChannelGrant, error) {
	f.mu.Lock()
	decide := f.onChannel
	f.mu.Unlock()
	grant := api.ChannelGrant{Allow: true, Event: r.ID}
	if decide != nil {
		var err error
		if grant, err = decide(r); err != nil {
			return grant, err
		}
	}
	kind, outcome := kindForward, string(audit.Success)
	if r.Type == api.ChannelShell || r.Type == api.ChannelExec || r.Type == api.ChannelSubsystem {
		kind = kindCommand
	}
	if !grant.Allow {
		outcome = string(audit.Denied)
	}
	return grant, f.Report(ctx, []api.Report{{ID: r.ID, Time: r.Time, Kind: kind, Outcome: outcome, SessionID: r.SessionID, Reason: grant.Reason, Details: details(r)}})
}

func (f *fakeControl) Front(_ context.Context, r api.FrontRequest) (api.Certificate, error) {
	f.mu.Lock()
	onFront, life := f.onFront, f.frontLife
	f.fronts = append(f.fronts, r.Host)
	f.mu.Unlock()
	if onFront != nil {
		if err := onFront(r); err != nil {
			return api.Certificate{}, err
		}
	}
	key, err := sshca.ParseKey(r.PublicKey)
	if err != nil {
		return api.Certificate{}, err
	}
	name := r.Host
	if name == "" {
		name = bastionName
	}
	after, before := sshca.Front.Window(time.Now(), life)
	cert, err := sshca.NewFront(sshca.HostParams{Key: key, Serial: f.front.next(f.t), KeyID: name, Names: []string{name}, ValidAfter: after, ValidBefore: before})
	f.front.sign(f.t, cert, err)
	return api.Certificate{Certificate: sshca.MarshalLine(cert), Serial: cert.Serial, ValidAfter: after, ValidBefore: before}, nil
}

func (f *fakeControl) Ack(_ context.Context, a api.Ack) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acks = append(f.acks, a)
	return nil
}

func (f *fakeControl) trust() *api.Trust {
	return &api.Trust{AccessCAs: []string{f.access.line()}, HostCAs: []string{f.hosts.line()}, FrontCAs: []string{f.front.line()}}
}

var errFakeDown = errors.New("broker unreachable")

func (f *fakeControl) Feed(ctx context.Context, after int64, _ []byte, handle func(api.FeedItem) error) error {
	f.mu.Lock()
	f.afters = append(f.afters, after)
	down, lease := f.down, f.leaseMS
	f.mu.Unlock()
	if down {
		return errFakeDown
	}
	if err := handle(api.FeedItem{Type: api.FeedTrust, Trust: f.trust(), LeaseMS: lease}); err != nil {
		return err
	}
	sets := 0
	beat := time.NewTicker(50 * time.Millisecond)
	defer beat.Stop()
	for {
		items, down := f.news(&after, &sets)
		if down {
			return errFakeDown
		}
		for _, item := range append(items, api.FeedItem{Type: api.FeedHeartbeat, LeaseMS: lease}) {
			if err := handle(item); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
		case <-f.changed:
		}
	}
}

func (f *fakeControl) news(after *int64, sets *int) (items []api.FeedItem, down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.revoked {
		if r.Index > *after {
			*after = r.Index
			items = append(items, api.FeedItem{Type: api.FeedRevoke, Revocation: &r})
		}
	}
	if *sets != f.keySets {
		*sets = f.keySets
		set := api.FeedKeySet{First: true, Last: true}
		for fingerprint, id := range f.keys {
			set.Keys = append(set.Keys, api.FeedKey{ID: id, Fingerprint: fingerprint})
		}
		items = append(items, api.FeedItem{Type: api.FeedKeys, Keys: &set})
	}
	return items, f.down
}

// register registers a key; without an ID it removes it.
func (f *fakeControl) register(key ssh.PublicKey, id string) {
	f.set(func() {
		if f.keys == nil {
			f.keys = map[string]string{}
		}
		f.keySets++
		if f.keys[ssh.FingerprintSHA256(key)] = id; id == "" {
			delete(f.keys, ssh.FingerprintSHA256(key))
		}
	})
}

func (f *fakeControl) keyID(fingerprint string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, ok := f.keys[fingerprint]
	if !ok {
		f.strangers++
	}
	return id, ok
}

// find returns the reports of a kind that the broker has taken.
func (f *fakeControl) find(kind string) []api.Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.Report
	for _, r := range f.reports {
		if r.Kind == kind {
			out = append(out, r)
		}
	}
	return out
}
