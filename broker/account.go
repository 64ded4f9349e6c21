package broker

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// viewAccount says whose an account name is, and why it cannot be released now.
func (s *Server) viewAccount(ctx context.Context, login string) (view api.AccountName, err error) {
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		a, held, err := s.planRelease(ctx, tx, login)
		view = api.AccountName{Name: a.Login, Issuer: a.Issuer, Subject: a.Subject, Email: a.Email, Since: a.Since}
		if held != nil {
			view.Held = held.Detail
		}
		return err
	})
	return view, unavailable(err)
}

// releaseAccount makes an account name nobody's: the next person whose e-mail makes it gets it. That nobody can come in as
// whose it was is looked at again in the transaction.
func (s *Server) releaseAccount(ctx context.Context, who Operator, r *http.Request) (any, error) {
	var asked api.AccountRelease
	if err := decode(&call{request: r}, &asked); err != nil {
		return nil, err
	}
	login := r.PathValue("name")
	view, err := s.viewAccount(ctx, login)
	if err != nil {
		return nil, err
	}
	e := s.operatorEvent(who, audit.KindAccountRelease, "account/"+login, asked.Reason, asked.Ticket)
	whose := map[string]any{"issuer": view.Issuer, "subject": view.Subject, "email": view.Email, "since": view.Since}
	if err := setDetails(&e, whose); err != nil {
		return nil, err
	}
	var held *api.Problem
	_, err = s.Log.Append(ctx, []audit.Event{e}, func(ctx context.Context, tx store.Tx) error {
		a, no, err := s.planRelease(ctx, tx, login)
		switch {
		case err != nil:
			return err
		case no != nil:
			held = no
			return no
		case a.Issuer != view.Issuer || a.Subject != view.Subject:
			return api.Errorf(api.KindConflict, "the account name %q has become another person's", login).WithHint("repeat the command")
		}
		return state.ReleaseAccountName(ctx, tx, a)
	})
	if held != nil {
		return nil, s.deny(ctx, e, whose, held)
	}
	return view, unavailable(err)
}

// planRelease finds whose an account name is, and says what holds it: whoever could still come in under it, or would get
// it back at once.
func (s *Server) planRelease(ctx context.Context, q store.Querier, login string) (a state.AccountName, held *api.Problem, err error) {
	a, err = state.AccountNameOf(ctx, q, login)
	if errors.Is(err, state.ErrNotFound) {
		return a, nil, api.Errorf(api.KindNotFound, "the account name %q is nobody's", printable(login, 64))
	}
	if err != nil {
		return a, nil, err
	}
	why, err := s.accountHeld(ctx, q, a)
	if why != "" {
		held = api.Errorf(api.KindConflict, "the account name %q is held: %s", login, why).
			WithHint("wait for that, or run: sega revoke user 'sub:%s', and repeat the command %s later", printable(a.Subject, 100), s.Times.AccessCert)
	}
	return a, held, err
}

// accountHeld says what holds an account name, "" where nothing does.
func (s *Server) accountHeld(ctx context.Context, q store.Querier, a state.AccountName) (string, error) {
	now := s.Now()
	has, err := state.HoldsOf(ctx, q, a.Issuer, a.Subject, now)
	if err != nil {
		return "", err
	}
	open, err := state.LiveSSH(ctx, q, a.Issuer, a.Subject, now)
	if err != nil {
		return "", err
	}
	switch {
	case len(open) > 0:
		return "an SSH session of its person is open", nil
	case !has.Sessions.IsZero():
		return "its person is logged in, or has a registered key, until " + has.Sessions.UTC().Format(time.RFC3339), nil
	case !has.Certs.IsZero():
		return "its person has a certificate until " + has.Certs.UTC().Format(time.RFC3339), nil
	}
	switch _, err := state.MemberByID(ctx, q, a.Issuer, a.Subject, now.Add(-memberFor)); {
	case errors.Is(err, state.ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	}
	return "its person counts among his groups until a day after his last login, and would get it again", nil
}
