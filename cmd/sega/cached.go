package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"sega/broker/api"
	"sega/keychain"
	"sega/keychain/secret"
)

// Without an agent what was handed out lies, sealed, in the store, and each hand-out asks the broker.

// itemOf names what is cached for a request: whoever asks for something else gets something else.
func itemOf(r api.CredentialsRequest) (string, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return itemAWS + r.Role + "/" + hex.EncodeToString(sum[:8]), nil
}

// sealedCredentials is the JSON of cached credentials inside the sealed store.
type sealedCredentials struct {
	api.Credentials
	Secret string `json:"secret_access_key"`
	Token  string `json:"session_token"`
}

func (s *session) credentials(ctx context.Context, r api.CredentialsRequest) (api.Credentials, error) {
	store, err := s.app.secrets()
	if err != nil {
		return api.Credentials{}, err
	}
	item, err := itemOf(r)
	if err != nil {
		return api.Credentials{}, err
	}
	cached, err := s.cached(ctx, store, item, r)
	if err != nil || cached.AccessKeyID != "" {
		return cached, err
	}
	done, err := s.app.turn(ctx, item)
	if err != nil {
		return api.Credentials{}, err
	}
	defer done()
	// Another process may have been faster.
	if cached, err = s.cached(ctx, store, item, r); err != nil || cached.AccessKeyID != "" {
		return cached, err
	}
	fresh, err := s.Credentials(ctx, r)
	if err != nil {
		return fresh, err
	}
	s.app.tell(fresh.Notices)
	if err := s.cache(store, item, fresh); err != nil {
		fmt.Fprintf(s.app.err, "sega: the credentials are not cached: %s\n", escape(err.Error()))
	}
	return fresh, nil
}

// endedFor is how long cached credentials must have ended to be dropped, by a clock that may be wrong.
const endedFor = 3 * time.Hour

// cache keeps credentials for as long as their login is the one that is stored, and drops what has ended.
func (s *session) cache(store *keychain.Store, item string, c api.Credentials) error {
	raw, err := json.Marshal(c.Wire())
	if err != nil {
		return err
	}
	return store.Update(func(items map[string]secret.Secret) error {
		if current, err := unseal(items[itemSession]); err != nil || current.Session.LoginID != s.saved().Session.LoginID {
			return nil // logged out meanwhile
		}
		maps.DeleteFunc(items, func(name string, v secret.Secret) bool {
			var old sealedCredentials
			return strings.HasPrefix(name, itemAWS) && (json.Unmarshal(v.Reveal(), &old) != nil || s.app.now().Sub(old.Expiration) > endedFor)
		})
		items[item] = secret.New(raw)
		return nil
	})
}

// turnPoll is how often a process looks whether it is its turn.
const turnPoll = 10 * time.Millisecond

// turn waits until no other process is getting what an item names: of a hundred that ask at once one asks
// AWS. The kernel's lock dies with its process. Where there can be none, everybody asks.
func (a *app) turn(ctx context.Context, item string) (done func(), err error) {
	sum := sha256.Sum256([]byte(item))
	path, err := a.path("turns", hex.EncodeToString(sum[:8]))
	if err != nil {
		return func() {}, nil
	}
	f := flock.New(path, flock.SetPermissions(0o600))
	if _, err := f.TryLockContext(ctx, turnPoll); err != nil {
		return func() {}, context.Cause(ctx)
	}
	return func() { _ = f.Unlock() }, nil
}

// cached returns what is cached where the broker lets it be used once more; else nothing. Every
// hand-out without an agent asks the broker first (R12).
func (s *session) cached(ctx context.Context, store *keychain.Store, item string, r api.CredentialsRequest) (api.Credentials, error) {
	raw, err := store.Get(item)
	if errors.Is(err, keychain.ErrNotFound) {
		return api.Credentials{}, nil
	}
	if err != nil {
		return api.Credentials{}, err
	}
	var c sealedCredentials
	if json.Unmarshal(raw.Reveal(), &c) != nil {
		return api.Credentials{}, store.Delete(item)
	}
	// How long they still live the broker says: the laptop's clock may be hours off.
	again, err := s.Reuse(ctx, api.ReuseRequest{Role: c.Role, AccessKeyID: c.AccessKeyID, Reason: r.Reason, Ticket: r.Ticket})
	switch {
	case err == nil && time.Duration(again.SecondsLeft)*time.Second < enough:
		return api.Credentials{}, nil
	case err == nil:
		c.SecretAccessKey, c.SessionToken = secret.FromString(c.Secret), secret.FromString(c.Token)
		return c.Credentials, nil
	case api.IsKind(err, api.KindNotFound):
		return api.Credentials{}, store.Delete(item)
	case api.IsKind(err, api.KindRevoked):
		return api.Credentials{}, errors.Join(err, store.Delete(item))
	}
	return api.Credentials{}, err
}
