package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/policy"
	"sega/broker/state"
)

// ready answers /readyz: 200 only while what is asked for can be granted.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.readiness(); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (s *Server) readiness() error {
	if err := s.Policy.Err(); err != nil {
		return fmt.Errorf("policy: the last good set is in force: %w", err)
	}
	select {
	case <-s.stop:
		return errors.New("shutting down")
	default:
		return errors.Join(s.probe.check(s), s.caReadiness())
	}
}

// probeLife is how long the answer of a probe holds: anybody may ask /readyz, and each write costs a sync.
const probeLife = time.Second

// probe knows whether the log takes writes.
type probe struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

func (p *probe) check(s *Server) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := s.Now()
	if now.Sub(p.at) < probeLife {
		return p.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := s.Log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error { return state.Probe(ctx, tx, now) })
	if p.at, p.err = now, nil; err != nil {
		s.Logger.Error("the log takes no writes", "error", err)
		p.err = fmt.Errorf("the audit log takes no writes: %s", storeReason(err))
		if errors.Is(err, store.ErrSetBack) {
			p.err = errors.New("the database was set back: it no longer holds the log that this broker has signed; see that the right server is in its place, then restart the broker, which voids every session where it still is so")
		}
	}
	return p.err
}

// Reload reads policy anew. A good set is in force once its event is durable; a bad one is recorded
// and the last good one kept (R8).
func (s *Server) Reload(ctx context.Context) error {
	record := func(digest string, outcome audit.Outcome, details any) error {
		e := audit.Event{V: 1, ID: audit.NewID(), Time: s.Now().UTC(), Kind: "policy.reload", Outcome: outcome,
			Actor: audit.Actor{Kind: "system"}, Resource: "policy/" + s.Node, PolicyDigest: digest, PolicyIDs: []string{}, Node: s.Node}
		if err := setDetails(&e, details); err != nil {
			return err
		}
		_, err := s.Log.Append(ctx, []audit.Event{e}, nil)
		return err
	}
	recorded := false
	err := s.Policy.ReloadIf(func(set *policy.Set) error {
		recorded = true
		return record(set.Digest(), audit.Success, nil)
	})
	if err == nil || recorded {
		return err
	}
	return errors.Join(err, record(s.Policy.Set().Digest(), audit.Failure, map[string]string{"error": err.Error()}))
}

// Settle gives every intent of this node that no request will close any more the outcome "unknown"
// (R3): an earlier run left it, or its outcome could not be made durable. The call may have reached
// AWS, the credentials never reached anybody.
func (s *Server) Settle(ctx context.Context) error {
	all, err := s.openIntents(ctx)
	if err != nil {
		return err
	}
	var open []state.Intent
	var events []audit.Event
	for _, intent := range all {
		if _, busy := s.underway.Load(intent.Action); busy {
			continue
		}
		var e audit.Event
		if err := json.Unmarshal(intent.Body, &e); err != nil {
			return err
		}
		open, events = append(open, intent), append(events, e)
	}
	if len(open) == 0 {
		return nil
	}
	for i := range events {
		events[i].ID, events[i].Time, events[i].Outcome = audit.NewID(), s.Now().UTC(), audit.Unknown
		events[i].Details, events[i].DetailsDigest = json.RawMessage(`{"error":{"kind":"internal","detail":"the outcome of the call was not recorded; nothing was handed out"}}`), ""
	}
	_, err = s.Log.Append(ctx, events, func(ctx context.Context, tx store.Tx) error {
		for _, intent := range open {
			if err := state.CloseIntent(ctx, tx, intent.Action); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// reportMemory is how long a report that comes again is known to be a repetition. Bastions repeat one
// until they have our answer; one that was cut off for longer may be in the log twice.
const reportMemory = 30 * 24 * time.Hour

// Sweep forgets what expired a day ago and reports of a month ago, and tells of logins that were left out of the log.
func (s *Server) Sweep(ctx context.Context) error {
	_, err := s.Log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		now := s.Now()
		return errors.Join(state.DropExpired(ctx, tx, now.Add(-24*time.Hour)), state.DropReports(ctx, tx, now.Add(-reportMemory), now),
			state.DropHopKeys(ctx, tx, now.Add(-reportMemory)), state.DropHostTokens(ctx, tx, now.Add(-24*time.Hour)),
			state.DropLogins(ctx, tx, now.Add(-reportMemory)),
			state.DropAnswers(ctx, tx, now.Add(-answerMemory)))
	})
	return errors.Join(err, s.tellLeftOut(ctx))
}

func containsFold(s, sub string) bool { return strings.Contains(strings.ToLower(s), sub) }

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func firstOf(values ...any) any {
	for _, v := range values {
		if v != nil {
			return v
		}
	}
	return nil
}
