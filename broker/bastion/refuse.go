package bastion

import (
	"context"
	"encoding/json"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/broker/api"
)

const (
	kindRefuse     = "ssh.refuse"
	refuseCapacity = 1024 // distinct (source, reason) in a window; more are counted together
)

// refusal is what an event says about refused certificates of one source for one reason. All but
// Count was written by whoever connected, and nothing vouches for it.
type refusal struct {
	Count  int    `json:"count"`
	Serial string `json:"serial,omitempty"`
	KeyID  string `json:"key_id,omitempty"`
	Key    string `json:"key,omitempty"`
	CA     string `json:"ca,omitempty"`
	User   string `json:"user,omitempty"`
	Client string `json:"client,omitempty"`
	Host   string `json:"host,omitempty"`
	Login  string `json:"login,omitempty"`
	Wanted string `json:"wanted,omitempty"` // of something else than ssh to a host
	Signed bool   `json:"signed"`           // the key was used, not only offered
}

func refusedCert(cert *ssh.Certificate, meta ssh.ConnMetadata) refusal {
	var r refusal
	if meta != nil {
		r.User, r.Client = printable(clip(meta.User())), printable(clip(string(meta.ClientVersion())))
	}
	if cert == nil {
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

type refusalKey struct {
	source netip.Addr
	reason string
}

// refusals turns refused certificates into events: the first of a kind at once, its repeats as one
// event with their number at the end of the window. Whoever knocks cannot flood the log.
type refusals struct {
	put    func(api.Report)
	now    func() time.Time
	window time.Duration

	mu   sync.Mutex
	seen map[refusalKey]*refusal // Count: repeats not yet reported
	rest int                     // beyond capacity
}

func (r *refusals) note(source netip.Addr, reason string, detail refusal) {
	key := refusalKey{source, printable(reason)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if again := r.seen[key]; again != nil {
		again.Count++
		return
	}
	if len(r.seen) >= refuseCapacity {
		r.rest++
		return
	}
	first := detail
	first.Count = 1
	r.report(key, first)
	r.seen[key] = &detail
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
	for key, d := range r.seen {
		if d.Count > 0 {
			r.report(key, *d)
		}
	}
	clear(r.seen)
	if r.rest > 0 {
		r.report(refusalKey{reason: "further sources or reasons, counted only"}, refusal{Count: r.rest})
		r.rest = 0
	}
}

func (r *refusals) report(key refusalKey, d refusal) {
	source := ""
	if key.source.IsValid() {
		source = key.source.String()
	}
	r.put(api.Report{ID: newEventID(), Time: r.now().UTC(), Kind: kindRefuse, Outcome: string(audit.Denied),
		Reason: key.reason, Source: source, Details: details(d)})
}

// details marshals what an event says; the types are the bastion's own and cannot fail.
func details(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage(`{}`)
	}
	return raw
}
