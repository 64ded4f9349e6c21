package broker

import (
	"context"
	"errors"
	"time"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/awssts"
	"sega/broker/policy"
)

// console hands out an address that opens AWS's web console: intent, AssumeRole along the path,
// federation, outcome, release. The credentials themselves never leave.
func (s *Server) console(ctx context.Context, c *call) (any, error) {
	var r api.ConsoleRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	op, w, err := s.assumption(ctx, c, audit.KindAWSConsole, r.CredentialsRequest)
	if err != nil {
		return nil, err
	}
	if s.Consoles == nil {
		return nil, api.Errorf(api.KindInvalid, "this broker opens no console")
	}
	place, err := s.Consoles.Place(w.role().ARN, awssts.Page{Service: r.Service, Path: r.Path, Region: r.Region})
	if err != nil {
		return nil, awsInvalid(err)
	}
	op.details = atPlace(w.details(assumed{}), place)
	// Beside assume, which op demands already: what forbids a role's credentials forbids its console.
	may := *op.decide
	may.Action = policy.ActionConsole
	op.also = append(op.also, demand{request: &may})
	op.act = func(ctx context.Context, d policy.Decision, action string) (effect, error) {
		return s.openConsole(ctx, c, w, place, d, action), nil
	}
	return s.perform(ctx, c, op)
}

// openConsole is the act: a session, and an address in its place.
func (s *Server) openConsole(ctx context.Context, c *call, w wish, place awssts.Place, d policy.Decision, action string) effect {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Times.Upstream)
	defer cancel()
	made, problem := s.assume(ctx, c, w, d, action)
	details := atPlace(w.details(made), place)
	if problem != nil {
		return effect{denied: problem, details: details}
	}
	defer made.SecretAccessKey.Wipe()
	defer made.SessionToken.Wipe()
	in, err := s.Consoles.SignIn(ctx, made.Result, place)
	if err != nil {
		return effect{denied: consoleProblem(err), details: details}
	}
	ends := in.Ends(made.Expiration, s.Now()).UTC().Truncate(time.Second)
	details["session_duration"], details["console_until"] = in.Seconds, ends
	return effect{details: details, apply: w.grant(c, made, ends, true),
		reply: api.Console{URL: in.URL, LogoutURL: place.LogoutURL, LogoutLeadsOn: place.LogoutLeadsOn, Expires: ends, Role: w.role().Name, RoleARN: w.role().ARN, Notices: nonNil(made.Notices)}}
}

func atPlace(details map[string]any, p awssts.Place) map[string]any {
	details["destination"] = p.Destination
	return details
}

// consoleProblem turns an error of the federation endpoint into ours.
func consoleProblem(err error) *api.Problem {
	var e *awssts.Error
	if !errors.As(err, &e) {
		return api.Errorf(api.KindUpstream, "AWS refused the console").WithCause(err)
	}
	if e.Kind == awssts.KindUnreachable {
		return api.Errorf(api.KindUnreachable, "AWS's federation endpoint did not answer").WithHint("%s", e.Hint).WithCause(err)
	}
	return api.Errorf(api.KindUpstream, "%s", e.Text()).WithHint("%s", e.Hint).WithCause(err)
}
