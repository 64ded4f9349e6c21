package provider_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sega/cmd/segad/dev/browser"
	"sega/cmd/segad/dev/provider"
	"sega/idp"
)

func TestBrowserLoginYieldsAWholeIdentity(t *testing.T) {
	w := newWorld(t, nil)
	nonce := idp.Nonce("thumbprint", "https://sega.corp.example", []byte("random"))
	tokens, err := w.browserLogin(t.Context(), w.login(nonce), credentials(ann()))
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.verifier.Verify(t.Context(), tokens.IDToken, nonce)
	if err != nil {
		t.Fatal(err)
	}
	now := w.clock.now()
	want := idp.Identity{
		Issuer: w.Issuer(), Subject: "00uann", Email: "ann@corp.example", EmailVerified: true, Name: "Ann",
		Groups: []string{"sega-users", "sre"}, GroupsKnown: true, AMR: []string{"pwd", "mfa", "otp"}, MFA: true,
		AuthTime: now, IssuedAt: now, Expires: now.Add(time.Hour), Nonce: nonce,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(idp.Identity{}, "Digest"), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Error(diff)
	}
	if len(got.Digest) != 64 || tokens.RefreshToken.Empty() || tokens.AccessToken.Empty() {
		t.Errorf("digest %q, refresh token %t, access token %t", got.Digest, !tokens.RefreshToken.Empty(), !tokens.AccessToken.Empty())
	}
}

func TestTokensAreBoundToOriginAndKey(t *testing.T) {
	w := newWorld(t, nil)
	random := []byte("0123456789abcdef0123456789abcdef")
	mine := idp.Nonce("my-key", "https://sega.corp.example", random)
	tokens, err := w.browserLogin(t.Context(), w.login(mine), credentials(ann()))
	if err != nil {
		t.Fatal(err)
	}
	for name, nonce := range map[string]string{
		"other origin": idp.Nonce("my-key", "https://evil.example", random),
		"other key":    idp.Nonce("their-key", "https://sega.corp.example", random),
		"other random": idp.Nonce("my-key", "https://sega.corp.example", []byte("x")),
		"none":         "",
	} {
		if _, err := w.verifier.Verify(t.Context(), tokens.IDToken, nonce); !errors.Is(err, idp.ErrNonce) {
			t.Errorf("%s: %v, want ErrNonce", name, err)
		}
	}
	if _, err := w.verifier.VerifyDevice(t.Context(), tokens.IDToken); !errors.Is(err, idp.ErrNonce) {
		t.Errorf("as a device login: %v, want ErrNonce", err)
	}
}

func TestLoginsThatFail(t *testing.T) {
	wrongCode := credentials(ann())
	wrongCode.TOTPSecret = "GEZDGNBVGY3TQOJQ"
	noCode := credentials(ann())
	noCode.TOTPSecret = ""
	wrongPassword := credentials(ann())
	wrongPassword.Password = "wrong"
	nobody := credentials(ann())
	nobody.Email = "nobody@corp.example"
	for _, c := range []struct {
		name string
		cred browser.Credentials
		want string
	}{
		{"wrong password", wrongPassword, "password is wrong"},
		{"unknown user", nobody, "password is wrong"},
		{"wrong code", wrongCode, "code is wrong"},
		{"no authenticator", noCode, "there is no authenticator"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			_, err := w.browserLogin(t.Context(), w.login("n"), c.cred)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestDisabledUserGetsNothing(t *testing.T) {
	w := newWorld(t, nil)
	tokens := w.mustLogin(t)
	w.Disable(ann().Email)
	if _, err := w.browserLogin(t.Context(), w.login("n"), credentials(ann())); err == nil {
		t.Error("a disabled user logged in")
	}
	if _, err := w.verifier.UserInfoGroups(t.Context(), tokens.AccessToken, "00uann"); !errors.Is(err, idp.ErrGroupsUnknown) {
		t.Errorf("userinfo: %v", err)
	}
	if _, err := w.idp.Refresh(t.Context(), clientID, tokens.RefreshToken); !errors.Is(err, idp.ErrInvalidGrant) {
		t.Errorf("refresh: %v", err)
	}
}

func TestCancelledLogin(t *testing.T) {
	w := newWorld(t, nil)
	_, err := w.browserLogin(t.Context(), w.login("n"), browser.Credentials{Cancel: true})
	var answer *idp.OAuthError
	if !errors.Is(err, idp.ErrDenied) || !errors.As(err, &answer) || answer.Code != "access_denied" {
		t.Errorf("got %v, want access_denied", err)
	}
}

func TestPasswordAloneIsNoMFA(t *testing.T) {
	w := newWorld(t, nil)
	tokens, err := w.browserLogin(t.Context(), w.login("n"), credentials(bob()))
	if err != nil {
		t.Fatal(err)
	}
	id, err := w.verifier.Verify(t.Context(), tokens.IDToken, "n")
	if err != nil || id.MFA {
		t.Errorf("MFA %t, error %v", id.MFA, err)
	}
	l := w.login("n")
	l.ACRValues = []string{"urn:okta:loa:2fa:any"}
	if _, err := w.browserLogin(t.Context(), l, credentials(bob())); !errors.Is(err, idp.ErrACR) {
		t.Errorf("two factors asked of who has one: %v", err)
	}
	l.ACRValues = []string{"urn:okta:loa:2fa:any", "urn:okta:loa:1fa:any"}
	tokens, err = w.browserLogin(t.Context(), l, credentials(bob()))
	if err != nil {
		t.Fatal(err)
	}
	if id, err = w.verifier.Verify(t.Context(), tokens.IDToken, "n"); err != nil || id.MFA || id.ACR != "urn:okta:loa:1fa:any" {
		t.Errorf("acr %q, MFA %t, error %v", id.ACR, id.MFA, err)
	}
}

func TestACRIsHonoured(t *testing.T) {
	w := newWorld(t, nil)
	l := w.login("n")
	l.ACRValues = []string{"unknown:level", "urn:okta:loa:2fa:any"}
	tokens, err := w.browserLogin(t.Context(), l, credentials(ann()))
	if err != nil {
		t.Fatal(err)
	}
	id, err := w.verifier.Verify(t.Context(), tokens.IDToken, "n")
	if err != nil || id.ACR != "urn:okta:loa:2fa:any" || !id.MFA {
		t.Errorf("acr %q, MFA %t, error %v", id.ACR, id.MFA, err)
	}
}

func TestBusyPortsAreSkipped(t *testing.T) {
	w := newWorld(t, nil)
	hold := func(port int) {
		ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
	}
	hold(w.ports[0])
	if _, err := w.browserLogin(t.Context(), w.login("n"), credentials(ann())); err != nil {
		t.Fatalf("with the first port busy: %v", err)
	}
	hold(w.ports[1])
	opened := false
	_, err := w.idp.Browser(t.Context(), w.login("n"), func(string) error { opened = true; return nil })
	if !errors.Is(err, idp.ErrPortsBusy) || opened {
		t.Errorf("with all ports busy: %v, browser opened %t", err, opened)
	}
}

func TestUnregisteredRedirectEndsInSilence(t *testing.T) {
	w := newWorld(t, nil)
	l := w.login("n")
	l.Ports = freePorts(t, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var page *browser.PageError
	_, err := w.idp.Browser(ctx, l, func(address string) error {
		// The browser shows an error and stays open; our side sees nothing until its deadline.
		if visit := w.browser().Visit(ctx, address, credentials(ann())); !errors.As(visit, &page) {
			t.Errorf("visit: %v", visit)
		}
		cancel(context.DeadlineExceeded)
		return nil
	})
	if page == nil || page.Status != http.StatusBadRequest || !strings.Contains(page.Message, "redirect_uri") {
		t.Errorf("page: %v", page)
	}
	if !errors.Is(err, idp.ErrNoAnswer) || !strings.Contains(err.Error(), fmt.Sprintf("127.0.0.1:%d/callback", l.Ports[0])) {
		t.Errorf("login: %v", err)
	}
}

func TestPasteLogin(t *testing.T) {
	w := newWorld(t, nil)
	var shown string
	show := func(address string) error { shown = address; return nil }
	final := func(ctx context.Context) (string, error) {
		return w.browser().Address(ctx, shown, credentials(ann()), fmt.Sprintf("http://127.0.0.1:%d/", w.ports[0]))
	}
	query := func(ctx context.Context) (string, error) {
		address, err := final(ctx)
		_, q, _ := strings.Cut(address, "?")
		return " ?" + q + "\n", err
	}
	for name, read := range map[string]func(context.Context) (string, error){"whole address": final, "query alone": query} {
		tokens, err := w.idp.Paste(t.Context(), w.login("n"), show, read)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := w.verifier.Verify(t.Context(), tokens.IDToken, "n"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	old, err := final(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stale := func(context.Context) (string, error) { return old, nil }
	if _, err := w.idp.Paste(t.Context(), w.login("n"), show, stale); !errors.Is(err, idp.ErrState) {
		t.Errorf("address of an earlier attempt: %v, want ErrState", err)
	}
}

func TestThinIDTokenNeedsUserInfo(t *testing.T) {
	w := newWorld(t, func(c *provider.Config) { c.ThinIDToken = true })
	tokens := w.mustLogin(t)
	id, err := w.verifier.Verify(t.Context(), tokens.IDToken, "n-1")
	if err != nil || id.GroupsKnown || id.Groups != nil {
		t.Fatalf("groups %v, known %t, error %v", id.Groups, id.GroupsKnown, err)
	}
	groups, err := w.verifier.UserInfoGroups(t.Context(), tokens.AccessToken, id.Subject)
	if diff := cmp.Diff([]string{"sega-users", "sre"}, groups); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if _, err := w.verifier.UserInfoGroups(t.Context(), tokens.AccessToken, "00ubob"); !errors.Is(err, idp.ErrGroupsUnknown) {
		t.Errorf("another subject: %v", err)
	}
	if _, err := w.verifier.UserInfoGroups(t.Context(), tokens.RefreshToken, id.Subject); !errors.Is(err, idp.ErrGroupsUnknown) {
		t.Errorf("not an access token: %v", err)
	}
}

func TestSessionOfTheProvider(t *testing.T) {
	w := newWorld(t, nil)
	b := w.browser()
	visit := func(l idp.Login, c browser.Credentials) (idp.Identity, error) {
		tokens, err := w.idp.Browser(t.Context(), l, func(address string) error { return b.Visit(t.Context(), address, c) })
		if err != nil {
			return idp.Identity{}, err
		}
		return w.verifier.Verify(t.Context(), tokens.IDToken, l.Nonce)
	}
	first, err := visit(w.login("n1"), credentials(ann()))
	if err != nil {
		t.Fatal(err)
	}
	w.clock.add(time.Hour)
	silent, err := visit(w.login("n2"), browser.Credentials{}) // nothing to fill in with
	if err != nil || !silent.AuthTime.Equal(first.AuthTime) {
		t.Errorf("in a live session: auth_time %v, want %v; %v", silent.AuthTime, first.AuthTime, err)
	}
	fresh := w.login("n3")
	fresh.Fresh = true
	if _, err := visit(fresh, browser.Credentials{}); err == nil {
		t.Error("a fresh login asked for nothing")
	}
	again, err := visit(fresh, credentials(ann()))
	if err != nil || !again.AuthTime.After(first.AuthTime) {
		t.Errorf("fresh login: auth_time %v; %v", again.AuthTime, err)
	}
}
