package broker

import (
	"context"
	"errors"
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
	role, problem := s.roleOrUnknown(r.Role)
	reason, ticket := printable(r.Reason, 1000), printable(r.Ticket, 100)
	bearer := c.bearer()
	op := operation{kind: "aws.assume", name: "role/" + role.Name, reason: reason, ticket: ticket, external: true, bearer: &bearer,
		details: map[string]any{"role_arn": role.ARN, "seconds": r.Seconds, "mode": role.mode()}}
	if problem != nil {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, problem)
	}
	if r.Seconds < 0 || r.Seconds > 12*3600 {
		return nil, api.Errorf(api.KindInvalid, "a duration is between 900 and 43200 seconds")
	}
	if len(r.Chain) > 0 || len(r.PolicyARNs) > 0 || r.Policy != "" || r.ReadOnly {
		return nil, api.Errorf(api.KindInvalid, "this broker neither chains roles nor narrows credentials")
	}
	op.decide = s.request(c.session, policy.ActionAssume, roleResource(role), policy.Context{Reason: reason, Ticket: ticket, Source: c.source.String()})
	op.act = func(ctx context.Context, d policy.Decision, action string) (effect, error) {
		return s.assume(ctx, c, role, r, awssts.Request{RoleARN: role.ARN, ExternalID: role.ExternalID,
			Identity: awssts.Identity{Email: c.session.Email, Subject: c.session.Subject}, LoginID: c.session.ID, RequestID: action,
			Reason: reason, Ticket: ticket, Want: time.Duration(r.Seconds) * time.Second, PolicyMax: d.Obligations.MaxDuration, RoleMax: role.MaxDuration, WebIdentity: s.webIdentity(c, role)})
	}
	return s.perform(ctx, c, op)
}

func (s *Server) assume(ctx context.Context, c *call, role Role, r api.CredentialsRequest, request awssts.Request) (effect, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Times.Upstream)
	defer cancel()
	result, err := s.Minter.Assume(ctx, request)
	if err != nil {
		return effect{}, awsProblem(err)
	}
	reply := api.Credentials{AccessKeyID: result.AccessKeyID, SecretAccessKey: result.SecretAccessKey, SessionToken: result.SessionToken,
		Expiration: result.Expiration.UTC(), Role: role.Name, RoleARN: role.ARN, AssumedRoleARN: result.AssumedRoleARN, Notices: nonNil(result.Notices)}
	return effect{reply: reply,
		details: map[string]any{"role_arn": role.ARN, "seconds": r.Seconds, "mode": role.mode(), "access_key_id": result.AccessKeyID, "assumed_role_arn": result.AssumedRoleARN,
			"assumed_role_id": result.AssumedRoleID, "source_identity": result.SourceIdentity, "session_name": result.SessionName,
			"expiration": reply.Expiration, "notices": reply.Notices, "unanswered_calls": result.Unanswered},
		apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error {
			return state.AddGrant(ctx, tx, state.Grant{AccessKeyID: result.AccessKeyID, Role: role.Name, Bearer: c.bearer(), Expires: result.Expiration})
		}}, nil
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
	return api.Errorf(api.KindUpstream, "%s", e.Error()).WithHint("%s", e.Hint).WithCause(err)
}

// reuse decides whether credentials that the laptop has cached may be handed out once more (R12).
func (s *Server) reuse(ctx context.Context, c *call) (any, error) {
	var r api.ReuseRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	role, problem := s.roleOrUnknown(r.Role)
	reason, ticket := printable(r.Reason, 1000), printable(r.Ticket, 100)
	op := operation{kind: "aws.reuse", name: "role/" + role.Name, reason: reason, ticket: ticket,
		details: map[string]any{"access_key_id": printable(r.AccessKeyID, 128)}}
	if problem != nil {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, problem)
	}
	op.decide = s.request(c.session, policy.ActionAssume, roleResource(role), policy.Context{Reason: reason, Ticket: ticket, Source: c.source.String()})
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

// reusable returns how long credentials still live that were given to this person for this role, where
// nothing of the person was revoked since; else 0.
func (s *Server) reusable(ctx context.Context, c *call, r api.ReuseRequest) (left time.Duration, err error) {
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		g, err := state.GrantByKey(ctx, tx, r.AccessKeyID)
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		ok := err == nil && g.Issuer == c.session.Issuer && g.Subject == c.session.Subject && g.Role == r.Role && g.Epoch == c.session.Epoch
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
