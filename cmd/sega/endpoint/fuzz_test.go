package endpoint

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"sega/broker/api"
)

// FuzzRequest: whatever a request looks like, credentials come only for an exact path with its token,
// under the address's own name.
func FuzzRequest(f *testing.F) {
	for _, s := range [][4]string{
		{"GET", "PATH", "127.0.0.1:9", "TOKEN"}, {"GET", "/role/dev", "127.0.0.1:9", "ROLES"}, {"GET", "/role/d%65v", "127.0.0.1:9", "ROLES"}, {"PUT", "PATH", "127.0.0.1:9", "TOKEN"},
		{"GET", "PATH", "localhost:9", "TOKEN"}, {"GET", "PATH?", "127.0.0.1:9", "TOKEN "}, {"GET", "/role/%2e%2e/", "127.0.0.1:9", "ROLES"}, {"GET", "http://127.0.0.1:9PATH", "127.0.0.1:9", "TOKEN"},
	} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	f.Fuzz(func(t *testing.T, method, target, host, auth string) {
		s, source := newServer(t, Config{})
		path, token, err := s.Add(api.CredentialsRequest{Role: "child"})
		if err != nil {
			t.Fatal(err)
		}
		roles, err := s.AddRoles(func(role string) (api.CredentialsRequest, bool) { return api.CredentialsRequest{Role: role}, true })
		if err != nil {
			t.Fatal(err)
		}
		target = strings.ReplaceAll(target, "PATH", path)
		auth = strings.NewReplacer("TOKEN", string(token.Reveal()), "ROLES", string(roles.Reveal())).Replace(auth)
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
		r := (&http.Request{Method: method, URL: u, Host: host, RemoteAddr: "127.0.0.1:1", Header: http.Header{"Authorization": {auth}}}).WithContext(ctx)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			if strings.Contains(w.Body.String(), "canary") || len(source.roles()) != 0 {
				t.Errorf("%d, and the source was asked for %q: %s", w.Code, source.roles(), w.Body)
			}
			return
		}
		role := source.roles()[0]
		child := target == path && auth == string(token.Reveal()) && role == "child"
		ofRole := strings.HasPrefix(target, rolePrefix) && auth == string(roles.Reveal()) && printable(role)
		if method != http.MethodGet || host != "127.0.0.1:9" || !child && !ofRole {
			t.Errorf("given for %q %q at %q", method, target, host)
		}
	})
}

// FuzzRolePath: the path of a role leads back to it.
func FuzzRolePath(f *testing.F) {
	for _, s := range []string{"dev-admin", "a b", "ä", "a/b", "..", "%2f", "a?b#c", ";", "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, role string) {
		path := RolePath(role)
		got, ok := unescapeSegment(strings.TrimPrefix(path, rolePrefix))
		if ok != printable(role) || ok && got != role {
			t.Errorf("%q leads to %q, %v", path, got, ok)
		}
		if u, err := url.ParseRequestURI(path); ok && (err != nil || u.RawQuery != "" || u.EscapedPath() != path) {
			t.Errorf("%q is not one path: %v", path, err)
		}
	})
}

// FuzzMetadataToken: nothing but what was given is a token.
func FuzzMetadataToken(f *testing.F) {
	m := newTokens(func() time.Time { return noon })
	f.Add(m.give(1))
	f.Add("")
	f.Add(strings.Repeat("A", 75))
	f.Fuzz(func(t *testing.T, shown string) {
		tokens := newTokens(func() time.Time { return noon })
		if tokens.good([]string{shown}) {
			t.Errorf("%q is good", shown)
		}
		given := tokens.give(1e9)
		if !tokens.good([]string{given}) || tokens.good([]string{given, given}) || shown != given && tokens.good([]string{shown}) {
			t.Error("what was given is not what is good")
		}
	})
}
