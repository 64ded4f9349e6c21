package broker

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// operatorIssuer is the issuer of operators' identities: accounts of the broker's machine.
const operatorIssuer = "sega:operators"

// Operator is who works on the broker's machine, as the kernel says.
type Operator struct {
	Subject string // uid:0
	Name    string // of the account
}

type operatorKey struct{}

// WithOperator returns a context of requests that an operator makes.
func WithOperator(ctx context.Context, o Operator) context.Context {
	return context.WithValue(ctx, operatorKey{}, o)
}

// Operators answers those who run the broker, on a socket of its machine. Whoever serves it says who asks by WithOperator; nobody
// else gets an answer.
func (s *Server) Operators() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+api.RouteAccount, s.operated(func(ctx context.Context, _ Operator, r *http.Request) (any, error) {
		return s.viewAccount(ctx, r.PathValue("name"))
	}))
	mux.Handle("POST "+api.RouteAccountRelease, s.operated(s.releaseAccount))
	mux.Handle("GET "+api.RouteCAs, s.operated(func(ctx context.Context, _ Operator, _ *http.Request) (any, error) { return s.viewCAs(ctx) }))
	for route, step := range map[string]struct {
		kind string
		plan func(ctx context.Context, ca string) planner
	}{
		api.RouteCAPublish:  {audit.KindCAPublish, func(ctx context.Context, ca string) planner { return s.planPublish(s.rereadCAs(ctx, ca, newKeys)) }},
		api.RouteCAWithdraw: {audit.KindCAWithdraw, always(s.planWithdraw)},
		api.RouteCARotate:   {audit.KindCASwitch, always(s.planSwitch)},
		api.RouteCARetire:   {audit.KindCARetire, always(s.planRetire)},
		api.RouteCAAdopt:    {audit.KindCAAdopt, func(ctx context.Context, ca string) planner { return s.planAdopt(s.rereadCAs(ctx, ca, adoptable)) }},
	} {
		mux.Handle("POST "+route, s.operated(func(ctx context.Context, who Operator, r *http.Request) (any, error) {
			ca := r.PathValue("ca")
			if !slices.Contains(caNames, ca) {
				return nil, api.Errorf(api.KindNotFound, "no CA %q: there are access, hop, front and host", printable(ca, 20))
			}
			var asked api.CAStep
			if err := decode(&call{request: r}, &asked); err != nil {
				return nil, err
			}
			if err := s.stepCA(ctx, who, step.kind, ca, asked, step.plan(ctx, ca)); err != nil {
				return nil, err
			}
			return s.viewCAs(ctx)
		}))
	}
	return mux
}

// always plans a step for which the configuration is not looked at.
func always(p planner) func(context.Context, string) planner {
	return func(context.Context, string) planner { return p }
}

// operated does what an operator asks for and answers with what act returns.
func (s *Server) operated(act func(ctx context.Context, who Operator, r *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok := r.Context().Value(operatorKey{}).(Operator)
		c := &call{id: newRequestID(), request: r, writer: w}
		if !ok {
			s.fail(w, c, api.Errorf(api.KindUnauthenticated, "nobody said who asks"))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
		view, err := act(r.Context(), who, r)
		if err != nil {
			s.fail(w, c, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(view)
	})
}

// rereadCAs takes up keys that the configuration names by now, and says which of those that a step may be about do not sign.
func (s *Server) rereadCAs(ctx context.Context, ca string, keys chooser) *candidates {
	if s.ReloadCAs != nil {
		s.cas.mu.Lock()
		s.reloadCAs(ctx)
		s.cas.mu.Unlock()
	}
	c := &candidates{ca: ca, ring: *s.cas.ring.Load(), keys: keys, fails: map[string]error{}}
	for _, line := range keys(c.ring, ca, s.cas.now.Load().keys) {
		c.fails[line] = sshca.TrySigner(c.ring.find(ca, line))
	}
	return c
}

// viewCAs says where the CAs stand.
func (s *Server) viewCAs(ctx context.Context) (view api.CAs, err error) {
	now := s.cas.now.Load()
	failing := s.cas.health.list()
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		keys, err := state.CAKeys(ctx, tx)
		if err != nil {
			return err
		}
		if view.Version, err = state.TrustVersion(ctx, tx); err != nil {
			return err
		}
		for _, name := range caNames {
			ca, err := s.viewCA(ctx, tx, name, keys)
			if err != nil {
				return err
			}
			ca.Signing = now.signing[name] != nil && !slices.Contains(failing, name)
			view.CAs = append(view.CAs, ca)
		}
		return nil
	})
	return view, unavailable(err)
}

func (s *Server) viewCA(ctx context.Context, q store.Querier, name string, keys []state.CAKey) (api.CA, error) {
	ring := *s.cas.ring.Load()
	ca := api.CA{Name: name, Keys: []api.CAKey{}, New: []string{}, Next: "publish", Seen: []api.CASeen{}, ByHand: []string{}}
	for _, line := range newKeys(ring, name, keys) {
		ca.New = append(ca.New, fingerprint(line))
	}
	for _, k := range keys {
		if k.CA != name {
			continue
		}
		if k.Phase == state.CACurrent && ring.find(name, k.Key) == nil {
			ca.Next = "adopt"
		}
		ca.Keys = append(ca.Keys, api.CAKey{Line: k.Key, Fingerprint: fingerprint(k.Key), Phase: k.Phase, Version: k.Version,
			Published: k.Published, Replaced: k.Replaced, Until: k.Until, Retired: k.Retired, Foreign: k.Phase != state.CARetired && !ring.names(k), Kept: k.Phase == state.CARetired && ring.names(k)})
		switch {
		case ca.Next == "adopt": // before all else
		case k.Phase == state.CAOld: // before another one signs
			ca.Next, ca.NotYet = "retire", k.Until
			ca.ByHand = append(ca.ByHand, s.signedByHand(name)...)
		case k.Phase == state.CANext:
			seen, byHand, err := s.whoSees(ctx, q, name, k)
			if err != nil {
				return ca, err
			}
			ca.Seen, ca.ByHand = append(ca.Seen, seen...), append(ca.ByHand, byHand...)
			if ca.Next == "publish" {
				if ca.NotYet, err = s.laptopsHave(ctx, q, name, k); err != nil {
					return ca, err
				}
				ca.Next = "rotate"
			}
		}
	}
	return ca, nil
}

// signsStill is for the transaction of certificates that live for weeks, those of hosts: none may be signed by a key of which a
// rotation has already noted when its last one ends.
func (s *Server) signsStill(ctx context.Context, q store.Querier, ca string, key string) error {
	_, by, err := caOf(ctx, q, ca)
	if err != nil || by[state.CACurrent].Key == key {
		return err
	}
	return api.Errorf(api.KindUnavailable, "the %s CA has begun to sign with another key", ca).WithHint("repeat the command")
}
