package idp

import (
	"context"
	"fmt"
	"net/http"

	"github.com/go-jose/go-jose/v4/json"

	"sega/keychain/secret"
)

// UserInfoGroups asks the userinfo endpoint for the groups of sub, for an ID token that is silent
// about them (Okta leaves them out when an access token is issued too). It is the answer about sub
// or none: every failure is ErrGroupsUnknown, with ErrUnreachable or an OAuthError below where it fits.
func (v *Verifier) UserInfoGroups(ctx context.Context, access secret.Secret, sub string) ([]string, error) {
	p := v.provider
	if p.meta.UserInfo == "" || access.Empty() || sub == "" {
		return nil, ErrGroupsUnknown
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.meta.UserInfo, nil)
	if err != nil {
		return nil, ErrGroupsUnknown
	}
	req.Header.Set("Authorization", "Bearer "+string(access.Reveal()))
	req.Header.Set("Accept", "application/json")
	body, err := p.send(req, map[string][]string{"token": {string(access.Reveal())}})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGroupsUnknown, err)
	}
	return v.groupsOf(body, sub)
}

// groupsOf reads the answer (OpenID Connect Core §5.3.2: sub must be compared).
func (v *Verifier) groupsOf(body []byte, sub string) ([]string, error) {
	var who struct {
		Subject string `json:"sub"`
	}
	if json.Unmarshal(body, &who) != nil {
		return nil, fmt.Errorf("%w: its answer is malformed", ErrGroupsUnknown)
	}
	if who.Subject != sub {
		return nil, fmt.Errorf("%w: its answer is about somebody else", ErrGroupsUnknown)
	}
	c, err := parseClaims(body, v.cfg.GroupsClaim)
	if err != nil || c.groups == nil {
		return nil, fmt.Errorf("%w: its answer has no groups", ErrGroupsUnknown)
	}
	return c.groups, nil
}
