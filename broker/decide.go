package broker

import (
	"time"

	"sega/broker/policy"
	"sega/broker/state"
)

// request builds what policy is asked: always the verified identity of the session, never a claim
// of the client.
func (s *Server) request(session state.Session, action string, resource policy.Resource, more policy.Context) *policy.Request {
	more.MFA, more.Method, more.Now = session.MFA, session.Method, s.Now()
	more.AuthAge = more.Now.Sub(session.AuthTime)
	if session.AuthTime.IsZero() {
		more.AuthAge = 100 * 365 * 24 * time.Hour // absent counts as stale
	}
	kind := policy.KindUser
	if session.Kind == state.KindMachine {
		kind = policy.KindMachine
	}
	return &policy.Request{
		Principal: policy.Principal{Issuer: session.Issuer, Subject: session.Subject, Email: session.Email, Groups: session.Groups, Kind: kind},
		Action:    action, Resource: resource, Context: more,
	}
}

func roleResource(r Role) policy.Resource {
	return policy.Resource{Type: policy.TypeRole, ID: r.Name, Account: r.Account(), Labels: r.Labels}
}

func hostResource(h Host) policy.Resource {
	return policy.Resource{Type: policy.TypeHost, ID: h.Name, Labels: h.Labels}
}

func (s *Server) role(name string) (Role, bool) {
	for _, r := range s.Roles {
		if r.Name == name {
			return r, true
		}
	}
	return Role{}, false
}
