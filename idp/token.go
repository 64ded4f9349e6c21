package idp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"sega/keychain/secret"
)

// Tokens is what a grant yields. Any of them but IDToken may be empty; after Refresh IDToken may
// be empty too (OpenID Connect Core §12.2).
type Tokens struct {
	IDToken      secret.Secret
	AccessToken  secret.Secret
	RefreshToken secret.Secret
	Expires      time.Time // of the access token; zero where the provider does not say
}

// tokenAnswer is a successful answer of the token endpoint (RFC 6749 §5.1).
type tokenAnswer struct {
	IDToken      secret.Secret `json:"id_token"`
	AccessToken  secret.Secret `json:"access_token"`
	RefreshToken secret.Secret `json:"refresh_token"`
	Type         string        `json:"token_type"`
	ExpiresIn    json.Number   `json:"expires_in"`
}

// grant performs one call of the token endpoint.
func (p *Provider) grant(ctx context.Context, form url.Values) (Tokens, error) {
	body, err := p.post(ctx, p.meta.Token, form)
	if err != nil {
		return Tokens{}, err
	}
	var a tokenAnswer
	if json.Unmarshal(body, &a) != nil {
		return Tokens{}, errors.New("the identity provider's token endpoint answered with something else than tokens")
	}
	if !strings.EqualFold(a.Type, "Bearer") {
		return Tokens{}, fmt.Errorf("%w: it returned tokens of type %q, turn off sender constraint for this client", ErrUnsupported, printable(a.Type, 20))
	}
	t := Tokens{IDToken: a.IDToken, AccessToken: a.AccessToken, RefreshToken: a.RefreshToken}
	if seconds, err := a.ExpiresIn.Int64(); err == nil && seconds > 0 && seconds < 1<<31 {
		t.Expires = p.now().Add(time.Duration(seconds) * time.Second)
	}
	return t, nil
}

// login performs a grant that must yield an ID token.
func (p *Provider) login(ctx context.Context, form url.Values) (Tokens, error) {
	t, err := p.grant(ctx, form)
	if err != nil {
		return Tokens{}, err
	}
	if t.IDToken.Empty() {
		return Tokens{}, ErrNoIDToken
	}
	return t, nil
}

// Refresh spends a refresh token. Where the provider rotates, the given one is dead afterwards:
// the caller stores the returned one before anything else, and two processes never refresh at
// once (a re-used token kills the login). The returned RefreshToken is the given one where the
// provider did not rotate. Errors: ErrInvalidGrant means log in again; ErrUnreachable, try again.
func (p *Provider) Refresh(ctx context.Context, clientID string, refresh secret.Secret) (Tokens, error) {
	t, err := p.grant(ctx, url.Values{
		"grant_type": {"refresh_token"}, "client_id": {clientID}, "refresh_token": {string(refresh.Reveal())},
	})
	if err != nil {
		return Tokens{}, fmt.Errorf("refresh the login: %w", err)
	}
	if t.RefreshToken.Empty() {
		t.RefreshToken = refresh
	}
	return t, nil
}

// Revoke revokes a refresh or access token (RFC 7009). A token that the provider does not know is
// no error. ErrUnsupported where it has no revocation endpoint.
func (p *Provider) Revoke(ctx context.Context, clientID string, token secret.Secret) error {
	if p.meta.Revocation == "" {
		return fmt.Errorf("%w: token revocation", ErrUnsupported)
	}
	_, err := p.post(ctx, p.meta.Revocation, url.Values{"client_id": {clientID}, "token": {string(token.Reveal())}})
	if err != nil {
		return fmt.Errorf("revoke the login at the identity provider: %w", err)
	}
	return nil
}
