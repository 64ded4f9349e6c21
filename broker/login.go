package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/idp"
	"sega/keychain/secret"
)

// configuration tells a new laptop all that it needs.
func (s *Server) configuration(context.Context, *call) (any, error) {
	c := api.Configuration{Origin: s.Origin, Issuer: s.Issuer, ClientID: s.ClientID, Scopes: nonNil(s.Scopes), ACRValues: nonNil(s.ACRValues),
		RedirectPorts: s.RedirectPorts, RedirectPath: s.RedirectPath, DeviceGrant: s.DeviceGrant, LogKey: s.LogKey,
		FrontCAs: s.trust().FrontCAs, Version: s.Version}
	if len(s.Bastions) > 0 {
		c.Bastion, c.BastionName = s.Bastions[0].Address, s.Bastions[0].Name
	}
	for _, b := range s.Bastions {
		c.Bastions = append(c.Bastions, api.BastionAddress{Address: b.Address, Name: b.Name})
	}
	return c, nil
}

// login opens a session for an ID token that was made for this broker and this key (R1).
func (s *Server) login(ctx context.Context, c *call) (any, error) {
	var r api.LoginRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	random, err := base64.RawURLEncoding.DecodeString(r.Random)
	if err != nil || len(random) != 32 || (r.Method != api.MethodBrowser && r.Method != api.MethodPaste) {
		return nil, api.Errorf(api.KindInvalid, "a login needs 32 random bytes and the method browser or paste")
	}
	nonce := idp.Nonce(c.proof.Thumbprint, s.Origin, random)
	return s.openSession(ctx, c, r.Method, r.Client, func(ctx context.Context) (idp.Identity, error) {
		id, err := s.Verifier.Verify(ctx, r.IDToken, nonce)
		if err != nil {
			return id, err
		}
		return s.withGroups(ctx, id, r.AccessToken)
	})
}

// withGroups asks userinfo where a thin ID token holds no groups; without them there are none.
func (s *Server) withGroups(ctx context.Context, id idp.Identity, access secret.Secret) (idp.Identity, error) {
	if id.GroupsKnown || access.Empty() {
		return id, nil
	}
	groups, err := s.Verifier.UserInfoGroups(ctx, access, id.Subject)
	if err != nil {
		return id, err
	}
	id.Groups, id.GroupsKnown = groups, true
	return id, nil
}

// openSession is the common end of every login: verify, MFA, block, record, session.
func (s *Server) openSession(ctx context.Context, c *call, method, client string, verify func(context.Context) (idp.Identity, error)) (any, error) {
	session := state.Session{ID: api.NewID(api.IDLogin), Kind: state.KindLogin, Thumbprint: c.proof.Thumbprint, Method: method,
		Source: c.source.String(), Client: printable(client, 100)}
	actor := audit.Actor{Kind: "anonymous"}
	op := operation{kind: "user.login", name: "session/" + session.ID, actor: &actor, bearer: &state.Bearer{},
		details: map[string]any{"method": method, "client": session.Client, "thumbprint": c.proof.Thumbprint}}
	vctx, cancel := context.WithTimeout(ctx, s.Times.Upstream)
	defer cancel()
	id, err := verify(vctx)
	if id.Subject != "" {
		actor = audit.Actor{Kind: "user", Iss: id.Issuer, Sub: id.Subject, Email: id.Email}
	}
	if err != nil && vctx.Err() != nil {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, api.Errorf(api.KindUnreachable, "the identity provider does not answer").WithHint("try again, or ask whoever runs it").WithCause(err))
	}
	if err != nil {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, loginProblem(err))
	}
	if !id.MFA {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, api.Errorf(api.KindMFA, "the identity provider did not confirm MFA for this login").
			WithHint("enrol a second factor at your identity provider, then run: sega login"))
	}
	return s.admit(ctx, c, op, session, id)
}

// admit records the login and opens the session in one transaction.
func (s *Server) admit(ctx context.Context, c *call, op operation, session state.Session, id idp.Identity) (any, error) {
	if !id.EmailVerified && !s.TrustEmail {
		id.Email = "" // anybody may have typed it: the subject names the person
	}
	token, now := api.NewToken(api.PrefixSession), s.Now()
	session.TokenHash, session.Issuer, session.Subject, session.Email, session.Name = hashToken(token), id.Issuer, id.Subject, id.Email, id.Name
	session.Groups, session.MFA, session.AuthTime, session.Nonce = id.Groups, id.MFA, id.AuthTime, id.Nonce
	session.Created, session.NotAfter = now, now.Add(s.Times.Login)
	session.Expires = earlier(now.Add(s.Times.Session), session.NotAfter)
	op.loginID = session.ID
	op.details = map[string]any{"method": session.Method, "client": session.Client, "thumbprint": session.Thumbprint,
		"amr": nonNil(id.AMR), "acr": id.ACR, "auth_time": id.AuthTime, "groups": nonNil(id.Groups), "expires": session.Expires}
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		return effect{reply: sessionReply(session, token), apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error {
			if err := state.UseIDToken(ctx, tx, id.Digest, id.Expires.Add(time.Hour), now); errors.Is(err, state.ErrExists) {
				return api.Errorf(api.KindUnauthenticated, "this ID token was used before").WithHint("run: sega login")
			} else if err != nil {
				return err
			}
			subject, err := state.SeeSubject(ctx, tx, id.Issuer, id.Subject, id.Email, id.Name, now)
			if err != nil {
				return err
			}
			if subject.Blocked {
				return revokedFor(subject.BlockedReason)
			}
			session.Epoch, session.Rev = subject.Epoch, 1
			return errors.Join(state.AddSession(ctx, tx, session), state.FollowLogin(ctx, tx, session))
		}}, nil
	}
	return s.perform(ctx, c, op)
}

// loginProblem is what a person reads of a token that was refused; idp's texts hold no token.
func loginProblem(err error) *api.Problem {
	return api.Errorf(api.KindUnauthenticated, "the login was refused: %v", err).WithHint("run: sega login").WithCause(err)
}

func sessionReply(s state.Session, token secret.Secret) api.Session {
	return api.Session{Token: token, LoginID: s.ID, Person: person(s), Groups: nonNil(s.Groups), Method: s.Method, MFA: s.MFA,
		AuthTime: s.AuthTime, Expires: s.Expires, NotAfter: s.NotAfter}
}

func person(s state.Session) api.Person {
	return api.Person{Issuer: s.Issuer, Subject: s.Subject, Email: s.Email, Name: s.Name}
}

// renew prolongs a session by a refreshed ID token of the same login.
func (s *Server) renew(ctx context.Context, c *call) (any, error) {
	var r api.RenewRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	op := operation{kind: "session.renew", name: "session/" + c.session.ID}
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		ctx, cancel := context.WithTimeout(ctx, s.Times.Upstream)
		defer cancel()
		was := idp.Identity{Issuer: c.session.Issuer, Subject: c.session.Subject, AuthTime: c.session.AuthTime, Nonce: c.session.Nonce}
		id, err := s.Verifier.VerifyRefreshed(ctx, r.IDToken, was)
		if err == nil {
			id, err = s.withGroups(ctx, id, r.AccessToken)
		}
		if err == nil && !id.GroupsKnown {
			err = idp.ErrGroupsUnknown // what was known may have been taken away
		}
		if err != nil {
			return effect{denied: loginProblem(err)}, nil
		}
		if !id.MFA && len(id.AMR) > 0 {
			return effect{denied: api.Errorf(api.KindMFA, "the identity provider no longer confirms MFA for this login").WithHint("run: sega login")}, nil
		}
		token, next := api.NewToken(api.PrefixSession), c.session
		next.Expires = earlier(s.Now().Add(s.Times.Session), next.NotAfter)
		next.Groups = id.Groups
		return effect{reply: sessionReply(next, token), details: map[string]any{"expires": next.Expires, "groups": nonNil(next.Groups)},
			apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error {
				if err := state.UseIDToken(ctx, tx, id.Digest, id.Expires.Add(time.Hour), s.Now()); errors.Is(err, state.ErrExists) {
					return api.Errorf(api.KindUnauthenticated, "this ID token was used before").WithHint("run: sega login")
				} else if err != nil {
					return err
				}
				return errors.Join(state.RenewSession(ctx, tx, next.ID, hashToken(token), next.Groups, next.Expires), state.FollowLogin(ctx, tx, next))
			}}, nil
	}
	return s.perform(ctx, c, op)
}

// logout ends the caller's session.
func (s *Server) logout(ctx context.Context, c *call) (any, error) {
	return s.perform(ctx, c, operation{kind: "user.logout", name: "session/" + c.session.ID,
		act: func(context.Context, policy.Decision, string) (effect, error) {
			return effect{reply: api.Empty{}, apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error {
				return state.EndSession(ctx, tx, c.session.ID, state.EndedLogout, s.Now())
			}}, nil
		}})
}

// status answers who the caller is.
func (s *Server) status(_ context.Context, c *call) (any, error) {
	v := c.session
	return api.Status{LoginID: v.ID, Person: person(v), Groups: nonNil(v.Groups), Method: v.Method, MFA: v.MFA, AuthTime: v.AuthTime,
		Expires: v.Expires, NotAfter: v.NotAfter, Now: s.Now().UTC()}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// printable keeps what a stranger typed fit for a terminal and short.
func printable(s string, limit int) string {
	var out strings.Builder // a slice of the limit's length would stand on the stack of each caller, and have it grow
	left := limit
	for _, r := range s {
		if left == 0 {
			break
		}
		if r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) {
			out.WriteRune(r)
			left--
		}
	}
	return out.String()
}
