package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/client"
	"sega/idp"
	"sega/keychain"
	"sega/keychain/secret"
)

// Names of items in the secret store.
const (
	itemSession = "session"
	itemAWS     = "aws/" // + role
)

const (
	// renewBefore is how long before its end a session is renewed.
	renewBefore = 5 * time.Minute
	// renewTime is what the identity provider gets to answer. Of many processes that wait for each other
	// one waits for it.
	renewTime = 15 * time.Second
)

// errStillSilent is for whoever has waited while another process asked the provider in vain.
var errStillSilent = fmt.Errorf("%w: another process has asked it to renew the login, in vain", idp.ErrUnreachable)

// saved is the session as it lies, sealed, in the store.
type saved struct {
	Origin   string
	LogKey   string
	Session  api.Session
	Key      dpop.Key
	Refresh  secret.Secret
	Issuer   string
	ClientID string
}

// sealedForm is the JSON of a saved session: it goes into the sealed file and nowhere else.
type sealedForm struct {
	Origin   string      `json:"origin"`
	LogKey   string      `json:"log_key"`
	Session  api.Session `json:"session"`
	Token    string      `json:"token"`
	Key      string      `json:"key"`
	Refresh  string      `json:"refresh"`
	Issuer   string      `json:"issuer"`
	ClientID string      `json:"client_id"`
}

func (s saved) seal() (secret.Secret, error) {
	raw, err := json.Marshal(sealedForm{s.Origin, s.LogKey, s.Session, string(s.Session.Token.Reveal()), string(s.Key.Marshal().Reveal()),
		string(s.Refresh.Reveal()), s.Issuer, s.ClientID})
	return secret.New(raw), err
}

// unseal is errNotLoggedIn for nothing: another process may have logged out meanwhile.
func unseal(v secret.Secret) (saved, error) {
	if v.Empty() {
		return saved{}, errNotLoggedIn
	}
	var f sealedForm
	if err := json.Unmarshal(v.Reveal(), &f); err != nil {
		return saved{}, withKind(kindDamaged, withHint(errors.New("the stored session is damaged"), "run: sega login"))
	}
	key, err := dpop.ParseKey(secret.FromString(f.Key))
	f.Session.Token = secret.FromString(f.Token)
	return saved{Origin: f.Origin, LogKey: f.LogKey, Session: f.Session, Key: key, Refresh: secret.FromString(f.Refresh), Issuer: f.Issuer, ClientID: f.ClientID}, err
}

// session is a logged-in person's way to the broker. Safe for concurrent use.
type session struct {
	*client.Client
	app     *app
	witness *audit.Witness
	renewal singleflight.Group // an agent's many questions wait for one

	mu   sync.Mutex
	kept saved
}

// saved is the session as it is now: a renewal changes it.
func (s *session) saved() saved {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept
}

func (s *session) take(v saved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = v
}

// errOtherBroker is errNotLoggedIn for the broker that SEGA_BROKER names.
var errOtherBroker = fmt.Errorf("%w", errNotLoggedIn)

// load reads the stored session; errNotLoggedIn where there is none for this broker.
func (a *app) load() (saved, error) {
	store, err := a.secrets()
	if err != nil {
		return saved{}, err
	}
	raw, err := store.Get(itemSession)
	if errors.Is(err, keychain.ErrNotFound) {
		return saved{}, errNotLoggedIn
	}
	if err != nil {
		return saved{}, err
	}
	s, err := unseal(raw)
	if err != nil {
		return saved{}, err
	}
	if want := a.getenv("SEGA_BROKER"); want != "" {
		if origin, err := a.origin(""); err != nil || origin != s.Origin {
			return saved{}, withHint(errors.Join(err, errOtherBroker), "SEGA_BROKER names another broker than the one you are logged in to\nrun: sega login")
		}
	}
	return s, nil
}

// open loads the session and renews it where it is about to end.
func (a *app) open(ctx context.Context) (*session, error) {
	loaded, err := a.load()
	if errors.Is(err, errOtherBroker) { // a login would not help where that one does not answer
		origin, originErr := a.origin("")
		if originErr != nil {
			return nil, originErr
		}
		if _, reachErr := a.configuration(ctx, origin, false); api.IsKind(reachErr, api.KindUnreachable) {
			return nil, reachErr
		}
	}
	if err != nil {
		return nil, err
	}
	s := &session{app: a, kept: loaded}
	s.Client, s.witness, err = a.client(ctx, loaded.LogKey, client.Config{Origin: loaded.Origin, Key: loaded.Key, Token: func() secret.Secret { return s.saved().Session.Token }, Renew: s.renewForCall})
	if err != nil {
		return nil, err
	}
	left := loaded.Session.Expires.Sub(a.now())
	if left < renewBefore && a.now().Before(loaded.Session.NotAfter) && !loaded.Refresh.Empty() {
		if err := s.renew(ctx); err != nil && left <= 0 {
			return nil, err
		}
	}
	return s, nil
}

// renewForCall is renew where the broker has refused a call. Where nothing can be renewed what the broker said
// is to be told.
func (s *session) renewForCall(ctx context.Context) error {
	err := s.renew(ctx)
	if kindOf(err) == kindLogin {
		return errors.Join(client.ErrSessionOver, err)
	}
	return err
}

// renew prolongs the session by a refresh at the IdP (design.md §5 'Times'). One process does it:
// a rotated refresh token that is shown twice kills the login.
func (s *session) renew(ctx context.Context) error {
	_, err, _ := s.renewal.Do("", func() (any, error) { return nil, s.renewAlone(ctx) })
	return err
}

func (s *session) renewAlone(ctx context.Context) error {
	if s.saved().Refresh.Empty() {
		return errNotLoggedIn
	}
	store, err := s.app.secrets()
	if err != nil {
		return err
	}
	began := time.Now()
	var renewErr error
	err = store.Update(func(items map[string]secret.Secret) error {
		current, err := unseal(items[itemSession])
		if err != nil {
			return err
		}
		was := s.saved().Session
		if current.Session.LoginID != was.LoginID {
			return errNotLoggedIn // there is another login
		}
		if current.Session.Expires.After(was.Expires) {
			s.take(current) // another process was faster
			return nil
		}
		if time.Since(began) >= renewTime {
			return errStillSilent
		}
		tokens, err := refresh(ctx, current)
		if err != nil {
			return err
		}
		if !tokens.RefreshToken.Empty() {
			current.Refresh = tokens.RefreshToken
		}
		var renewed api.Session
		renewed, renewErr = s.Client.Renew(ctx, api.RenewRequest{IDToken: tokens.IDToken, AccessToken: tokens.AccessToken})
		if renewErr == nil {
			current.Session = renewed
			s.take(current)
		}
		// Whatever the broker said, the IdP has spent the old refresh token: the new one is kept.
		sealed, err := current.seal()
		if err == nil {
			items[itemSession] = sealed
		}
		return err
	})
	if err != nil {
		return err
	}
	return renewErr
}

// refresh gets new tokens from the identity provider.
func refresh(ctx context.Context, s saved) (idp.Tokens, error) {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	provider, err := idp.Discover(ctx, s.Issuer, http.DefaultClient)
	if err != nil {
		return idp.Tokens{}, err
	}
	return provider.Refresh(ctx, s.ClientID, s.Refresh)
}

// forget removes the session and every credential that came with it.
func (a *app) forget() error {
	store, err := a.secrets()
	if err != nil {
		return err
	}
	return store.Update(func(items map[string]secret.Secret) error {
		clear(items)
		return nil
	})
}

// noSession reports whether an error only says that there is nothing to log out of.
func noSession(err error) bool {
	return errors.Is(err, errNotLoggedIn) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, keychain.ErrNotFound)
}
