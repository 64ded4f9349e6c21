package bastion

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/broker/api"
	"sega/sshca"
)

const (
	kindRefuse     = "ssh.refuse"
	refuseSources  = 256  // in a window
	refuseReports  = 5    // at once, of a source in a window; what is more is counted
	refuseQueue    = 1024 // reports that wait for the broker; they are not kept over a restart
	maxRefusalText = 200
)

// Reasons of refusals. They are fixed texts: who is refused writes details, never the reason, and
// cannot make two kinds out of one.
const (
	reasonUnreadable = "unreadable key or certificate"
	reasonNested     = "unreadable key or certificate: its CA's key is of a type invalid for certificates"
	reasonSignature  = "signature refused"
	reasonUnasked    = "the broker could not be asked"
	reasonRaw        = "something else than ssh to a host through ssh -J"
	reasonOther      = "certificate refused"
	reasonRest       = "further sources, counted only"
	reasonMore       = "further refusals of this source, counted only"
)

// reasonOf returns the fixed text of a refused certificate.
func reasonOf(err error) string {
	for _, known := range []error{errPlainKey, errUnregistered, errOtherCert, sshca.ErrKey, sshca.ErrType, sshca.ErrMalformed, sshca.ErrNestedCA,
		sshca.ErrUnknownCA, sshca.ErrAlgorithm, sshca.ErrSignature, sshca.ErrSerial, sshca.ErrKeyID, sshca.ErrPrincipal, sshca.ErrLifetime,
		sshca.ErrNotYetValid, sshca.ErrExpired, sshca.ErrOption, sshca.ErrExtension, sshca.ErrSource} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return reasonOther
}

// refusal is what an event says about refused certificates of one source for one reason. All but
// Count and More was written by whoever connected, and nothing vouches for it.
type refusal struct {
	Count  int            `json:"count"`
	More   map[string]int `json:"more,omitempty"` // of reasonMore: how many of which reason
	Serial string         `json:"serial,omitempty"`
	KeyID  string         `json:"key_id,omitempty"`
	Key    string         `json:"key,omitempty"`
	CA     string         `json:"ca,omitempty"`
	User   string         `json:"user,omitempty"`
	Client string         `json:"client,omitempty"`
	Host   string         `json:"host,omitempty"`
	Login  string         `json:"login,omitempty"`
	Wanted string         `json:"wanted,omitempty"` // of something else than ssh to a host
	Error  string         `json:"error,omitempty"`  // what exactly was found, of which parts are the stranger's
	Signed bool           `json:"signed"`           // the key was used, not only offered
}

// because adds what was found to a refusal.
func (r refusal) because(err error) refusal {
	text := err.Error()
	r.Error = printable(text[:min(len(text), maxRefusalText)])
	return r
}

// refusedKey describes a key, or a certificate, that somebody showed; nil where it could not be read.
func refusedKey(key ssh.PublicKey, meta ssh.ConnMetadata) refusal {
	var r refusal
	if meta != nil {
		r.User, r.Client = printable(clip(meta.User())), printable(clip(string(meta.ClientVersion())))
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		if key != nil {
			r.Key = ssh.FingerprintSHA256(key)
		}
		return r
	}
	r.Serial, r.KeyID = strconv.FormatUint(cert.Serial, 10), printable(clip(cert.KeyId))
	if cert.Key != nil {
		r.Key = ssh.FingerprintSHA256(cert.Key)
	}
	if cert.SignatureKey != nil {
		r.CA = ssh.FingerprintSHA256(cert.SignatureKey)
	}
	return r
}

// refusals turns refused certificates into events: the first of a kind at once, its repeats as one
// event with their number at the end of the window. Whoever knocks cannot flood the log.
type refusals struct {
	queue  *reportQueue
	now    func() time.Time
	window time.Duration

	mu   sync.Mutex
	seen map[netip.Prefix]*knocker
	rest int // of sources beyond refuseSources, and what the queue had no room for
}

// knocker is what one source was refused in this window.
type knocker struct {
	source  netip.Addr // the first of its network
	reports int
	repeats map[string]*refusal // by reason; Count: not yet reported
	more    map[string]int      // beyond refuseReports
}

// note counts a refusal for one of the fixed reasons and reports it, unless enough was reported.
func (r *refusals) note(source netip.Addr, reason string, detail refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.seen[network(source)]
	if k == nil {
		if len(r.seen) >= refuseSources {
			r.rest++
			return
		}
		k = &knocker{source: source, repeats: map[string]*refusal{}, more: map[string]int{}}
		r.seen[network(source)] = k
	}
	switch again := k.repeats[reason]; {
	case again != nil:
		again.Count++
	case k.reports >= refuseReports:
		k.more[reason]++
	default:
		k.reports++
		k.repeats[reason] = &detail
		first := detail
		first.Count = 1
		r.report(source, reason, first)
	}
}

// network is the address itself, or the /64 of an IPv6 address, which one household holds. The zero
// address has a network of its own.
func network(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// run closes windows until ctx ends.
func (r *refusals) run(ctx context.Context) error {
	tick := time.NewTicker(r.window)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.closeWindow()
			return nil
		case <-tick.C:
			r.closeWindow()
		}
	}
}

func (r *refusals) closeWindow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.seen {
		r.closeSource(k)
	}
	clear(r.seen)
	if rest := r.rest; rest > 0 {
		r.rest = 0
		r.report(netip.Addr{}, reasonRest, refusal{Count: rest})
	}
}

func (r *refusals) closeSource(k *knocker) {
	for reason, d := range k.repeats {
		if d.Count > 0 {
			r.report(k.source, reason, *d)
		}
	}
	more := 0
	for _, n := range k.more {
		more += n
	}
	if more > 0 {
		r.report(k.source, reasonMore, refusal{Count: more, More: k.more})
	}
}

// report queues an event, the caller holding mu. Refusals may get lost with the process: a durable
// write for each would let strangers hold up the ends of sessions.
func (r *refusals) report(from netip.Addr, reason string, d refusal) {
	source := ""
	if from.IsValid() {
		source = from.String()
	}
	if r.queue.put(api.Report{ID: newEventID(), Time: r.now().UTC(), Kind: kindRefuse, Outcome: string(audit.Denied),
		Reason: reason, Source: source, Details: details(d)}) == nil {
		r.rest += max(1, d.Count)
	}
}

// details marshals what an event says; the types are the bastion's own and cannot fail.
func details(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage(`{}`)
	}
	return raw
}
