package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sega/broker/api"
	"sega/idp"
)

// TestSingleFlight: however many SDKs ask, one asking goes out, and it goes on when its first asker has gone.
func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s := &roleSource{ctx: t.Context(), talk: &bytes.Buffer{}, said: map[string]string{}, obtain: func(context.Context, api.CredentialsRequest) (granted, error) {
			calls++
			time.Sleep(10 * time.Second) // of the bubble's clock
			return given(), nil
		}}
		r := api.CredentialsRequest{Role: "dev-admin"}
		var all sync.WaitGroup
		all.Go(func() {
			gone, leave := context.WithTimeout(t.Context(), 2*time.Second)
			defer leave()
			if _, err := s.Credentials(gone, r); !api.IsKind(err, api.KindUnreachable) {
				t.Errorf("who left was told %v", err)
			}
		})
		for range 100 {
			all.Go(func() {
				if got, err := s.Credentials(t.Context(), r); err != nil || got.AccessKeyID != "ASIANEW" {
					t.Errorf("%v, %v", got, err)
				}
			})
		}
		all.Wait()
		if calls != 1 {
			t.Errorf("%d were sent", calls)
		}
	})
}

// TestWhatSDKsAreTold: kinds by which they know whether to ask again, and once what the person reads.
func TestWhatSDKsAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		kind api.Kind
		says string
	}{
		"revoked":       {api.Errorf(api.KindRevoked, "access was revoked"), api.KindRevoked, "access was revoked"},
		"not logged in": {errNotLoggedIn, api.KindUnauthenticated, "run: sega login"},
		"renewal":       {errors.Join(idp.ErrInvalidGrant), api.KindUnauthenticated, "sega login"},
		"no network":    {idp.ErrUnreachable, api.KindUnreachable, ""},
		"anything else": {errors.New("canary"), api.KindInternal, ""},
		"ended":         {context.Canceled, api.KindUnavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var talk bytes.Buffer
			s := &roleSource{ctx: t.Context(), talk: &talk, said: map[string]string{}, obtain: func(context.Context, api.CredentialsRequest) (granted, error) { return granted{}, c.err }}
			for range 3 {
				_, err := s.Credentials(t.Context(), api.CredentialsRequest{Role: "dev-admin"})
				var p *api.Problem
				if !errors.As(err, &p) || p.Kind != c.kind || !strings.Contains(p.Detail+" "+p.Hint, c.says) {
					t.Errorf("%+v", p)
				}
			}
			if strings.Count(talk.String(), "sega: dev-admin: ") != 1 {
				t.Errorf("the person reads %q", &talk)
			}
		})
	}
}

// TestServeAfterAnotherLogin: a program that runs on gets nothing of the next person's.
func TestServeAfterAnotherLogin(t *testing.T) {
	now := api.Person{Issuer: "https://idp.example", Subject: "1", Email: "alice@example.com"}
	s := &roleSource{ctx: t.Context(), talk: &bytes.Buffer{}, said: map[string]string{}, obtain: func(context.Context, api.CredentialsRequest) (granted, error) {
		g := given()
		g.Person = now
		return g, nil
	}}
	get := func() error {
		_, err := s.Credentials(t.Context(), api.CredentialsRequest{Role: "dev-admin"})
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	now.Email = "alice@example.net"
	if err := get(); err != nil {
		t.Errorf("the same person by another name: %v", err)
	}
	now.Subject = "2"
	if err := get(); !api.IsKind(err, api.KindUnauthenticated) {
		t.Errorf("another person: %v", err)
	}
}

// TestServeRefuses: what others could reach is not listened on, and nothing is served for it.
func TestServeRefuses(t *testing.T) {
	for name, args := range map[string][]string{
		"all interfaces": {"--listen", "0.0.0.0:0"}, "another": {"--listen", "192.0.2.1:80"}, "a name": {"--listen", "localhost:0"}, "no port": {"--listen", "127.0.0.1"},
		"metadata for all": {"dev-admin", "--imds=0.0.0.0:80"}, "metadata of no role": {"--imds"}, "format": {"--format", "csv"}, "two roles": {"a", "b"}, "duration": {"dev-admin", "--duration", "1s"},
	} {
		a, out, talk := testApp(t)
		if code := run(t.Context(), append([]string{"serve"}, args...), a); code != exitUsage || out.Len() > 0 {
			t.Errorf("%s: exit %d, %q: %s", name, code, out, talk)
		}
	}
	a, out, talk := testApp(t)
	if code := run(t.Context(), []string{"serve", "dev-admin"}, a); code != exitLogin || out.Len() > 0 {
		t.Errorf("nobody is logged in: exit %d, %q: %s", code, out, talk)
	}
}
