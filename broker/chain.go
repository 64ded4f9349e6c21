package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/awssts"
	"sega/broker/policy"
	"sega/broker/state"
)

// maxChain bounds the roles that are assumed from the first one.
const maxChain = 4

// wish is a request for a role's credentials, checked against the configuration. Reason and ticket are
// printable.
type wish struct {
	api.CredentialsRequest
	path   []Role // in the order in which they are assumed; whose credentials are asked for is the last
	narrow awssts.Narrow
}

func (w wish) role() Role { return w.path[len(w.path)-1] }

// assumption checks a request and says who decides on it and what the log calls it: the operation of
// a kind, but for its act.
func (s *Server) assumption(ctx context.Context, c *call, kind string, r api.CredentialsRequest) (operation, wish, error) {
	r.Reason, r.Ticket = printable(r.Reason, 1000), printable(r.Ticket, 100)
	w, bearer := wish{CredentialsRequest: r}, c.bearer()
	if len(r.Chain) > maxChain {
		return operation{}, w, api.Errorf(api.KindInvalid, "a chain has %d further roles at most", maxChain)
	}
	names := append([]string{r.Role}, r.Chain...)
	op := operation{kind: kind, name: "role/" + printable(names[len(names)-1], 64), reason: r.Reason, ticket: r.Ticket, external: true, bearer: &bearer,
		details: map[string]any{"seconds": r.Seconds}}
	var err error
	if w.path, err = s.path(ctx, c, op, names); err != nil {
		return op, w, err
	}
	if r.Seconds < 0 || r.Seconds > 12*3600 {
		return op, w, api.Errorf(api.KindInvalid, "a duration is between 900 and 43200 seconds")
	}
	if w.narrow, err = narrowing(r, w.role().ARN); err != nil {
		return op, w, err
	}
	op.details = w.details(assumed{})
	op.decide, op.also = s.onPath(c, w.path, policy.Context{Reason: r.Reason, Ticket: r.Ticket, ReadOnly: w.narrow.ReadOnly(w.role().ARN), Narrowed: !w.narrow.IsZero()})
	return op, w, nil
}

// path finds roles by name. Each that is not configured is a denial, as if policy had refused it.
func (s *Server) path(ctx context.Context, c *call, op operation, names []string) ([]Role, error) {
	var path []Role
	var refused []refusal
	seen := map[string]bool{}
	for _, name := range names {
		role, problem := s.roleOrUnknown(name)
		if problem != nil {
			refused = append(refused, refusal{name: "role/" + role.Name, problem: problem})
			continue
		}
		if seen[name] {
			return nil, api.Errorf(api.KindInvalid, "the role %q stands twice in the chain", role.Name)
		}
		seen[name] = true
		path = append(path, role)
	}
	if len(refused) > 0 {
		return nil, s.denyEach(ctx, s.newEvent(c, op), op.details, refused)
	}
	return path, nil
}

// onPath are the decisions that a path of roles takes: on each role as if it were asked for alone.
// What narrows the credentials is known of the last one's alone.
func (s *Server) onPath(c *call, path []Role, around policy.Context) (*policy.Request, []demand) {
	around.Source = c.source.String()
	last := len(path) - 1
	decide := s.request(c.session, policy.ActionAssume, roleResource(path[last]), around)
	around.ReadOnly, around.Narrowed = false, false
	var also []demand
	for _, role := range path[:last] {
		also = append(also, demand{"role/" + role.Name, s.request(c.session, policy.ActionAssume, roleResource(role), around)})
	}
	return decide, also
}

// narrowing reads what is to narrow the credentials of a role.
func narrowing(r api.CredentialsRequest, roleARN string) (awssts.Narrow, error) {
	n := awssts.Narrow{Policy: r.Policy, PolicyARNs: r.PolicyARNs}
	switch {
	case r.ReadOnly && !n.IsZero():
		return n, api.Errorf(api.KindInvalid, "read-only goes with no other session policy: AWS allows what any of them allows").
			WithHint("write what is to be read into one policy")
	case r.ReadOnly:
		n.PolicyARNs = []string{awssts.ReadOnlyAccess(roleARN)}
	}
	n = n.Compact()
	if err := n.Validate(roleARN); err != nil {
		return n, awsInvalid(err)
	}
	return n, nil
}

// hop is a role of a path in the log. What AWS made of it stands there once it is known.
type hop struct {
	Role           string    `json:"role"`
	RoleARN        string    `json:"role_arn"`
	AccessKeyID    string    `json:"access_key_id,omitempty"`
	AssumedRoleARN string    `json:"assumed_role_arn,omitempty"`
	AssumedRoleID  string    `json:"assumed_role_id,omitempty"`
	Expiration     time.Time `json:"expiration,omitzero"`
}

// assumed is what AWS has made of a wish: the session of the last role, and how it was reached. After a
// failure the hops are those that were made, and there is no session.
type assumed struct {
	awssts.Result
	hops []hop
}

// assume assumes the roles of a path, the first as the broker and each further one with the
// credentials of the one before. Those are dropped: nobody gets them, so they are no grants.
func (s *Server) assume(ctx context.Context, c *call, w wish, d policy.Decision, action string) (assumed, *api.Problem) {
	var made assumed
	unanswered := 0
	for i, role := range w.path {
		r := awssts.Request{RoleARN: role.ARN, ExternalID: role.ExternalID, Identity: awssts.Identity{Email: c.session.Email, Subject: c.session.Subject},
			LoginID: c.session.ID, RequestID: action, Reason: w.Reason, Ticket: w.Ticket,
			Want: awssts.MinDuration, PolicyMax: d.Obligations.MaxDuration, RoleMax: role.MaxDuration}
		if i == 0 { // what follows is assumed by its session, whatever the mode
			r.WebIdentity = s.webIdentity(c, role)
		}
		if i == len(w.path)-1 {
			r.Want, r.Narrow = time.Duration(w.Seconds)*time.Second, w.narrow
		}
		before := made.Result
		next, problem := s.step(ctx, c, before, r)
		before.SecretAccessKey.Wipe()
		before.SessionToken.Wipe()
		if problem != nil {
			made.Result = awssts.Result{}
			return made, w.atHop(i, problem)
		}
		unanswered += next.Unanswered
		made.Result, made.hops = next, append(made.hops, hop{role.Name, role.ARN, next.AccessKeyID, next.AssumedRoleARN, next.AssumedRoleID, next.Expiration.UTC()})
	}
	made.Unanswered = unanswered
	return made, nil
}

// step is one hop: with the broker's identity where there is no session before.
func (s *Server) step(ctx context.Context, c *call, before awssts.Result, r awssts.Request) (result awssts.Result, problem *api.Problem) {
	var err error
	if before.AccessKeyID == "" {
		result, err = s.Minter.Assume(ctx, r)
	} else {
		// A revocation that came since keeps the next role from being assumed at all (R4).
		err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error { return current(ctx, tx, c.bearer()) })
		if errors.Is(err, errRevoked) {
			return result, revokedProblem()
		}
		if err != nil {
			return result, asProblem(err)
		}
		result, err = s.Minter.AssumeFrom(ctx, before, r)
	}
	if err != nil {
		return result, awsProblem(err)
	}
	return result, nil
}

// atHop says where in a chain it failed.
func (w wish) atHop(i int, p *api.Problem) *api.Problem {
	if len(w.path) > 1 {
		p.Detail = fmt.Sprintf("hop %d of %d, role %q: %s", i+1, len(w.path), w.path[i].Name, p.Detail)
	}
	return p
}

// details are those of the events of a wish; of what was made nothing is secret.
func (w wish) details(made assumed) map[string]any {
	d := map[string]any{"role_arn": w.role().ARN, "seconds": w.Seconds, "mode": w.path[0].mode()}
	if !w.narrow.IsZero() {
		d["session_policies"] = policiesOf(w)
	}
	if len(w.path) > 1 {
		d["path"] = w.hops(made)
	}
	if made.AccessKeyID == "" {
		return d
	}
	for name, value := range map[string]any{"access_key_id": made.AccessKeyID, "assumed_role_arn": made.AssumedRoleARN, "assumed_role_id": made.AssumedRoleID,
		"source_identity": made.SourceIdentity, "session_name": made.SessionName, "expiration": made.Expiration.UTC(), "notices": nonNil(made.Notices), "unanswered_calls": made.Unanswered} {
		d[name] = value
	}
	return d
}

// hops are all roles of the path, with what is known of each.
func (w wish) hops(made assumed) []hop {
	var all []hop
	for i, role := range w.path {
		if i < len(made.hops) {
			all = append(all, made.hops[i])
		} else {
			all = append(all, hop{Role: role.Name, RoleARN: role.ARN})
		}
	}
	return all
}

// sessionPolicies are what narrows a session, in the log. The policy is as it goes to AWS.
type sessionPolicies struct {
	ReadOnly     bool     `json:"read_only"`
	ARNs         []string `json:"arns"`
	Policy       string   `json:"policy,omitempty"`
	PolicySHA256 string   `json:"policy_sha256,omitempty"`
}

func policiesOf(w wish) sessionPolicies {
	p := sessionPolicies{ReadOnly: w.narrow.ReadOnly(w.role().ARN), ARNs: nonNil(w.narrow.PolicyARNs), Policy: w.narrow.Policy}
	if p.Policy != "" {
		sum := sha256.Sum256([]byte(p.Policy))
		p.PolicySHA256 = hex.EncodeToString(sum[:])
	}
	return p
}

// grant records what is out there, and how it came about.
func (w wish) grant(c *call, made assumed, until time.Time, console bool) func(context.Context, store.Tx, audit.Event) error {
	g := state.Grant{AccessKeyID: made.AccessKeyID, Role: w.role().Name, Bearer: c.bearer(), Expires: until,
		Terms: state.Terms{ReadOnly: w.narrow.ReadOnly(w.role().ARN), Narrowed: !w.narrow.IsZero(), Console: console}}
	for _, role := range w.path[:len(w.path)-1] {
		g.Through = append(g.Through, role.Name)
	}
	return func(ctx context.Context, tx store.Tx, _ audit.Event) error { return state.AddGrant(ctx, tx, g) }
}
