package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/awssts"
	"sega/broker/policy"
	"sega/broker/state"
)

// roles lists the roles that exist, and for each whether the caller may and what is missing.
func (s *Server) roles(_ context.Context, c *call) (any, error) {
	out := api.Roles{Roles: []api.Role{}}
	for _, r := range s.Roles {
		request := s.request(c.session, policy.ActionAssume, roleResource(r), policy.Context{Source: c.source.String()})
		d := s.Policy.Decide(*request)
		v := api.Role{Name: r.Name, ARN: r.ARN, Account: r.Account(), Description: r.Description, MaxSeconds: int(r.MaxDuration.Seconds()), Mode: r.mode(), Allowed: d.Allow, Needs: []string{}}
		if d.Allow {
			v.Needs = needs(d.Obligations.Unmet(request.Context))
		} else {
			v.Why = d.Reason
		}
		out.Roles = append(out.Roles, v)
	}
	return out, nil
}

// needs names what a request for a role would have to bring.
func needs(u policy.Unmet) []string {
	out := []string{}
	for _, n := range []struct {
		unmet bool
		name  string
	}{{u.Reason, api.NeedReason}, {u.Ticket, api.NeedTicket}, {u.StepUp, api.NeedFresh}} {
		if n.unmet {
			out = append(out, n.name)
		}
	}
	return out
}

// unknownRole stands in for a role that is not configured, so that asking for one is a denial in
// the log like any other, and says no more than policy would.
func (s *Server) roleOrUnknown(name string) (Role, *api.Problem) {
	if r, ok := s.role(name); ok {
		return r, nil
	}
	return Role{Name: printable(name, 64)}, api.Errorf(api.KindDenied, "no role %q is configured", printable(name, 64)).WithHint("run: sega roles")
}

// credentials hands out temporary AWS credentials: intent, AssumeRole, outcome, release.
func (s *Server) credentials(ctx context.Context, c *call) (any, error) {
	var r api.CredentialsRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	op, w, err := s.assumption(ctx, c, audit.KindAWSAssume, r)
	if err != nil {
		return nil, err
	}
	op.act = func(ctx context.Context, d policy.Decision, action string) (effect, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Times.Upstream)
		defer cancel()
		made, problem := s.assume(ctx, c, w, d, action)
		if problem != nil {
			return effect{denied: problem, details: w.details(made)}, nil
		}
		return effect{reply: credentialsOf(w, made), details: w.details(made), apply: w.grant(c, made, made.Expiration, false)}, nil
	}
	return s.perform(ctx, c, op)
}

// credentialsOf is what the person gets.
func credentialsOf(w wish, made assumed) api.Credentials {
	return api.Credentials{AccessKeyID: made.AccessKeyID, SecretAccessKey: made.SecretAccessKey, SessionToken: made.SessionToken,
		Expiration: made.Expiration.UTC(), Role: w.role().Name, RoleARN: w.role().ARN, AssumedRoleARN: made.AssumedRoleARN, Notices: nonNil(made.Notices)}
}

// awsProblem turns an STS error into ours, with the missing permission named.
func awsProblem(err error) *api.Problem {
	var e *awssts.Error
	if !errors.As(err, &e) {
		return api.Errorf(api.KindUpstream, "AWS refused the role").WithCause(err)
	}
	if e.Ambiguous || e.Kind == awssts.KindUnreachable {
		return api.Errorf(api.KindUnreachable, "AWS STS did not answer").WithHint("%s", e.Hint).WithCause(err)
	}
	return api.Errorf(api.KindUpstream, "%s", e.Text()).WithHint("%s", e.Hint).WithCause(err)
}

// awsInvalid turns what was refused before AWS was asked into ours.
func awsInvalid(err error) *api.Problem {
	var e *awssts.Error
	if !errors.As(err, &e) {
		return asProblem(err)
	}
	return api.Errorf(api.KindInvalid, "%s", e.Detail).WithHint("%s", e.Hint)
}

// reuse decides whether credentials that the laptop has cached may be handed out once more (R12): on
// every role that they came through, by the broker's own record, as when they were made.
func (s *Server) reuse(ctx context.Context, c *call) (any, error) {
	var r api.ReuseRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	r.Reason, r.Ticket = printable(r.Reason, 1000), printable(r.Ticket, 100)
	terms, err := s.termsOf(ctx, c, r)
	if err != nil {
		return nil, err
	}
	details := map[string]any{"access_key_id": printable(r.AccessKeyID, 128)}
	if len(terms.Through) > 0 {
		details["through"] = terms.Through
	}
	op := operation{kind: audit.KindAWSReuse, name: "role/" + printable(r.Role, 64), reason: r.Reason, ticket: r.Ticket, details: details}
	path, err := s.path(ctx, c, op, append(slices.Clone(terms.Through), r.Role))
	if err != nil {
		return nil, err
	}
	op.decide, op.also = s.onPath(c, path, policy.Context{Reason: r.Reason, Ticket: r.Ticket, ReadOnly: terms.ReadOnly, Narrowed: terms.Narrowed})
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		left, err := s.reusable(ctx, c, r)
		if err != nil {
			return effect{}, err
		}
		if left <= 0 {
			return effect{denied: api.Errorf(api.KindNotFound, "these credentials are not to be used any more")}, nil
		}
		return effect{reply: api.Reuse{SecondsLeft: int(left.Seconds())}}, nil
	}
	return s.perform(ctx, c, op)
}

// termsOf is how credentials came about that are this person's for this role, so far as there are any.
func (s *Server) termsOf(ctx context.Context, c *call, r api.ReuseRequest) (terms state.Terms, err error) {
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		g, err := state.GrantByKey(ctx, tx, r.AccessKeyID)
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		if err == nil && grantedTo(g, c, r.Role) {
			terms = g.Terms
		}
		return err
	})
	return terms, unavailable(err)
}

// reusable returns how long credentials still live that were given to this person for this role, where
// nothing of the person was revoked since; else 0.
func (s *Server) reusable(ctx context.Context, c *call, r api.ReuseRequest) (left time.Duration, err error) {
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		g, err := state.GrantByKey(ctx, tx, r.AccessKeyID)
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		ok := err == nil && grantedTo(g, c, r.Role) && g.Epoch == c.session.Epoch && !g.Console
		if ok && g.LoginID != c.session.ID {
			ok, err = state.Current(ctx, tx, g.Bearer)
		}
		if ok {
			left = g.Expires.Sub(s.Now())
		}
		return err
	})
	return left, err
}

// grantedTo reports whether a grant is the caller's, for a role.
func grantedTo(g state.Grant, c *call, role string) bool {
	return g.Issuer == c.session.Issuer && g.Subject == c.session.Subject && g.Role == role
}
