package main

import (
	"context"
	"errors"

	"sega/broker/api"
	"sega/cmd/sega/agent"
	"sega/keychain"
	"sega/keychain/secret"
)

// agentLogin is a session as the agent works with it.
type agentLogin struct{ *session }

func (l agentLogin) Origin() string { return l.saved().Origin }

func (l agentLogin) Session() api.Status {
	s := l.saved().Session
	return api.Status{LoginID: s.LoginID, Person: s.Person, Groups: s.Groups, Method: s.Method, MFA: s.MFA, AuthTime: s.AuthTime, Expires: s.Expires, NotAfter: s.NotAfter}
}

func (l agentLogin) Renew(ctx context.Context) error {
	err := l.renew(ctx)
	switch kindOf(err) {
	case kindLogin, kindMissing, kindDamaged, kindIDPDenied: // only a login mends it
		return api.Errorf(api.KindUnauthenticated, "the session cannot be renewed").WithCause(err)
	}
	return err
}

func (l agentLogin) FrontCAs() []string {
	p, err := l.app.pinned()
	if err != nil {
		return nil
	}
	return p.Configuration.FrontCAs
}

func (l agentLogin) LogSize() int64 {
	_, tree := l.witness.Latest()
	return tree.N
}

// openForAgent opens the stored session in the agent, which asks nobody.
func (a *app) openForAgent(ctx context.Context) (agent.Login, error) {
	s, err := a.open(ctx)
	if errors.Is(err, keychain.ErrUnavailable) {
		return nil, api.Errorf(agent.KindNeedsKey, "%s", err.Error()).WithHint("run: sega agent unlock")
	}
	if err != nil {
		return nil, problemOf(err)
	}
	return agentLogin{s}, nil
}

// unlockAgent makes the stored secrets readable in the agent: with a key that a person was asked for,
// or by fetching it.
func (a *app) unlockAgent(key secret.Secret) error {
	store, err := a.secrets()
	if err == nil && !key.Empty() {
		err = store.Adopt(key)
	} else if err == nil {
		_, err = store.Key()
	}
	if errors.Is(err, keychain.ErrUnavailable) {
		return api.Errorf(agent.KindNeedsKey, "%s", err.Error()).WithHint("run: sega agent unlock")
	}
	if err != nil {
		return problemOf(err)
	}
	return nil
}

// problemOf is an error as it goes over the agent's socket: its kind is kept, and what this machine knows of it.
func problemOf(err error) *api.Problem {
	var p *api.Problem
	if errors.As(err, &p) {
		whole := *p
		if kind := kindOf(err); kind != api.KindInternal {
			whole.Kind = kind
		}
		return &whole
	}
	e := explanationOf(err, "")
	return api.Errorf(e.Kind, "%s", e.Detail).WithHint("%s", e.Hint)
}
