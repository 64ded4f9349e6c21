package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/sshca"
)

// keysEach is how many live keys a person may have.
const keysEach = 20

// registerKey registers a public key of the caller's: a session of the kind "key", whose token nobody has
// (docs/decisions/registered-keys.md).
func (s *Server) registerKey(ctx context.Context, c *call) (any, error) {
	var r api.RegisterKeyRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	key, err := sshca.ParseKey(strings.TrimSpace(r.PublicKey))
	if err != nil {
		return nil, api.Errorf(api.KindInvalid, "the public key cannot be registered: %v", err).WithHint("give a line like: ssh-ed25519 AAAA…")
	}
	if !keyName(r.Name) || r.Seconds < 0 {
		return nil, api.Errorf(api.KindInvalid, "a key needs a name of 1 to 64 letters, digits and . _ - @, and no negative life").WithHint("repeat with --name NAME")
	}
	now := s.Now()
	k := state.PersonKey{ID: api.NewID(api.IDKey), Issuer: c.session.Issuer, Subject: c.session.Subject, Email: c.session.Email, Name: r.Name,
		Fingerprint: ssh.FingerprintSHA256(key), PublicKey: sshca.MarshalLine(key), Hardware: sshca.IsHardware(key), Created: now}
	op := operation{kind: "key.add", name: "ssh-key/" + k.Fingerprint, details: map[string]any{"name": k.Name, "type": key.Type()}}
	shown, problem := s.keyProof(c, r.Proof, api.ProofRegister, key)
	if problem != nil {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, problem)
	}
	op.decide = s.request(c.session, policy.ActionRegisterKey, policy.Resource{Type: policy.TypeBroker, ID: s.Origin},
		policy.Context{Source: c.source.String(), HardwareKey: k.Hardware, UserVerified: shown.proof.Verified})
	op.act = func(_ context.Context, d policy.Decision, _ string) (effect, error) {
		k.Expires = now.Add(keyLife(r.Seconds, d.Obligations.MaxDuration, s.Times.RegisteredKey))
		return effect{reply: keyReply(k), details: map[string]any{"id": k.ID, "name": k.Name, "type": key.Type(), "hardware": k.Hardware, "expires": k.Expires},
			apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error { return s.addKey(ctx, tx, c, k) }}.after(shown.spend), nil
	}
	reply, err := s.perform(ctx, c, op)
	if err == nil {
		s.hub.notify()
	}
	return reply, err
}

// keyLife is how long a key is good: as long as was asked for, and no longer than policy gives.
func keyLife(seconds int, limit, usual time.Duration) time.Duration {
	if limit == 0 {
		limit = usual
	}
	if want := time.Duration(seconds) * time.Second; want > 0 && want < limit && seconds < int(limit/time.Second) {
		return want
	}
	return limit
}

// keyName accepts what people may call a key: it stands in lists, command lines and the log.
func keyName(name string) bool {
	return name != "" && len(name) <= 64 && name[0] != '-' && !strings.HasPrefix(name, api.IDKey) && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-@", r)
	})
}

// addKey stores a key, where it is nobody's yet. A key is one person's for good, and one that a revocation
// has ended comes back for nobody: who took the laptop has it.
func (s *Server) addKey(ctx context.Context, tx store.Tx, c *call, k state.PersonKey) error {
	if err := s.mayAddKey(ctx, tx, k); err != nil {
		return err
	}
	unknown := make([]byte, 32) // hash of a token that nobody has
	rand.Read(unknown)
	return state.AddKey(ctx, tx, k, state.Session{ID: k.ID, Kind: state.KindKey, TokenHash: unknown, Thumbprint: k.Fingerprint,
		Issuer: k.Issuer, Subject: k.Subject, Email: k.Email, Name: c.session.Name, Groups: c.session.Groups, Method: api.MethodKey,
		AuthTime: c.session.AuthTime, Source: c.source.String(), Client: c.session.Client, Created: k.Created, Expires: k.Expires, NotAfter: k.Expires,
		Epoch: c.session.Epoch, Rev: 1})
}

func (s *Server) mayAddKey(ctx context.Context, q state.Querier, k state.PersonKey) error {
	mine, err := state.LiveKeys(ctx, q, k.Issuer, k.Subject, s.Now())
	if err != nil {
		return err
	}
	for _, m := range mine {
		if m.Name == k.Name || m.Fingerprint == k.Fingerprint {
			return api.Errorf(api.KindConflict, "you have registered this key, or another one by this name, already: %s", m.Name).WithHint("look at your keys: sega keys list")
		}
	}
	if len(mine) >= keysEach {
		return api.Errorf(api.KindDenied, "a person has %d registered keys at the most", keysEach).WithHint("remove one: sega keys rm NAME")
	}
	old, err := state.KeyByFingerprint(ctx, q, k.Fingerprint)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	ended, err := state.SessionByID(ctx, q, old.ID)
	if err != nil {
		return err
	}
	if old.Issuer != k.Issuer || old.Subject != k.Subject || ended.EndedWhy == state.EndedRevoked {
		return api.Errorf(api.KindDenied, "this key was registered before, and is not to be registered again").WithHint("make a new one: ssh-keygen -t ed25519")
	}
	return nil
}

func keyReply(k state.PersonKey) api.Key {
	kind, _, _ := strings.Cut(k.PublicKey, " ")
	out := api.Key{ID: k.ID, Name: k.Name, Type: kind, Fingerprint: k.Fingerprint, Person: api.Person{Issuer: k.Issuer, Subject: k.Subject, Email: k.Email},
		Created: k.Created.UTC(), Expires: k.Expires.UTC()}
	if used := k.Used.UTC(); !k.Used.IsZero() {
		out.Used = &used
	}
	return out
}

// keys lists live keys: the caller's, or those of ?user=, "*" for everybody's, for those who may see everybody's sessions.
func (s *Server) keys(ctx context.Context, c *call) (any, error) {
	p := params{v: c.request.URL.Query()}
	user := p.text(api.ParamUser)
	if err := p.done(); err != nil {
		return nil, err
	}
	own := policy.Resource{Type: policy.TypeSession, ID: "own", Owner: c.session.Subject, OwnerIssuer: c.session.Issuer}
	op := operation{kind: "audit.read", name: "keys/own"}
	op.decide = s.request(c.session, policy.ActionListSessions, own, policy.Context{Source: c.source.String()})
	if user != "" {
		op.name = printable("keys/"+user, 128)
		op.decide = s.request(c.session, policy.ActionListSessions, policy.Resource{Type: policy.TypeBroker, ID: s.Origin}, policy.Context{Source: c.source.String()})
	}
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		out := api.Keys{Keys: []api.Key{}}
		err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
			iss, sub, err := s.keysOf(ctx, tx, c, user)
			if err != nil {
				return err
			}
			live, err := state.LiveKeys(ctx, tx, iss, sub, s.Now())
			for _, k := range live {
				out.Keys = append(out.Keys, keyReply(k))
			}
			return err
		})
		return effect{reply: out, details: map[string]any{"count": len(out.Keys)}}, unavailable(err)
	}
	return s.perform(ctx, c, op)
}

// keysOf says whose keys are meant; no subject for everybody's.
func (s *Server) keysOf(ctx context.Context, q state.Querier, c *call, user string) (iss, sub string, err error) {
	switch user {
	case "":
		return c.session.Issuer, c.session.Subject, nil
	case "*":
		return "", "", nil
	}
	subject, err := s.findSubject(ctx, q, user)
	return subject.Issuer, subject.Subject, err
}
