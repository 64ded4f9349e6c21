package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/keychain/secret"
)

func TestNewRefuses(t *testing.T) {
	for name, origin := range map[string]string{
		"empty": "", "http": "http://sega.example", "no scheme": "sega.example", "path": "https://sega.example/x",
		"query": "https://sega.example?a", "fragment": "https://sega.example#a", "user": "https://u:p@sega.example",
		"no host": "https://", "port alone": "https://:443", "opaque": "https:sega.example", "control": "https://a\x00b",
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := New(Config{Origin: origin}); err == nil {
				t.Errorf("took %q as %q", origin, c.Origin())
			}
		})
	}
	c, err := New(Config{Origin: "https://SEGA.example:8443/"})
	if err != nil || c.Origin() != "https://sega.example:8443" {
		t.Errorf("%v, %v", c, err)
	}
	if _, err := New(Config{Origin: "https://sega.example", Timeout: -1}); err == nil {
		t.Error("took a negative timeout")
	}
}

func TestNonceIsLearntAndKept(t *testing.T) {
	b := newBroker(t, answers(api.Roles{}))
	c := b.client(t, nil)
	for range 3 {
		if _, err := c.Roles(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.jtis) != 4 { // one refused, then three
		t.Errorf("%d proofs were sent, want 4", len(b.jtis))
	}
}

func TestNonceIsTriedOnce(t *testing.T) {
	calls := 0
	b := newBroker(t, func(w http.ResponseWriter, _ *http.Request) {
		calls++
		writeProblem(w, api.Errorf(api.KindNonce, "again"))
	})
	c := b.client(t, nil)
	// The first answer of serve is a refusal for want of a nonce, the second comes from answer.
	if _, err := c.Roles(context.Background()); !api.IsKind(err, api.KindNonce) {
		t.Errorf("got %v", err)
	}
	if calls != 1 {
		t.Errorf("asked %d times with a nonce, want 1", calls)
	}
}

func TestWithoutSession(t *testing.T) {
	b := newBroker(t, answers(api.Roles{}))
	for name, change := range map[string]func(*Config){
		"no source of tokens": func(c *Config) { c.Token = nil },
		"empty token":         func(c *Config) { c.Token = func() secret.Secret { return secret.Secret{} } },
		"no key":              func(c *Config) { c.Key = dpop.Key{} },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.client(t, change).Roles(context.Background())
			if p := api.AsProblem(err); p.Kind != api.KindUnauthenticated || !strings.Contains(p.Hint, "sega login") {
				t.Errorf("%+v", p)
			}
		})
	}
	if len(b.requests()) != 0 {
		t.Error("something was sent")
	}
}

func TestCheckpointFailsTheCall(t *testing.T) {
	forked := errors.New("the log has forked")
	creds := api.Credentials{AccessKeyID: "A", SecretAccessKey: secret.FromString("s"), SessionToken: secret.FromString("t")}
	for name, tc := range map[string]struct {
		header string // replaces the broker's; "-" removes it
		answer http.HandlerFunc
		is     error
	}{
		"refused":            {"", answers(creds), forked},
		"missing":            {"-", answers(creds), nil},
		"not base64":         {"%%%", answers(creds), nil},
		"refused at refusal": {"", func(w http.ResponseWriter, _ *http.Request) { writeProblem(w, api.Errorf(api.KindDenied, "no")) }, forked},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t, func(w http.ResponseWriter, r *http.Request) {
				switch tc.header {
				case "":
				case "-":
					w.Header().Del(api.HeaderCheckpoint)
				default:
					w.Header().Set(api.HeaderCheckpoint, tc.header)
				}
				tc.answer(w, r)
			})
			calls := 0
			c := b.client(t, func(cfg *Config) {
				cfg.OnCheckpoint = func([]byte) error {
					if calls++; calls == 1 { // that of the nonce's refusal
						return nil
					}
					return forked
				}
			})
			got, err := c.Credentials(context.Background(), api.CredentialsRequest{Role: "r"})
			if !api.IsKind(err, api.KindInternal) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Fatalf("got %v", err)
			}
			if got.AccessKeyID != "" || !got.SecretAccessKey.Empty() {
				t.Error("credentials came with the error")
			}
		})
	}
}

func TestSecretsThatWereNotRevealed(t *testing.T) {
	ctx := context.Background()
	plain := func(v any) http.HandlerFunc { // marshalled without Wire
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", typeJSON)
			_ = json.NewEncoder(w).Encode(v)
		}
	}
	for name, tc := range map[string]struct {
		answer any
		call   func(*Client) error
	}{
		"session":       {struct{ Token secret.Secret }{secret.FromString("x")}, func(c *Client) error { _, err := c.Login(ctx, api.LoginRequest{}); return err }},
		"empty session": {api.Empty{}, func(c *Client) error { _, err := c.Renew(ctx, api.RenewRequest{}); return err }},
		"machine":       {api.Empty{}, func(c *Client) error { _, err := c.MachineSession(ctx); return err }},
		"credentials":   {api.Empty{}, func(c *Client) error { _, err := c.Credentials(ctx, api.CredentialsRequest{}); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			c := newBroker(t, plain(tc.answer)).client(t, nil)
			if err := tc.call(c); !api.IsKind(err, api.KindInternal) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestQueriesOfReview(t *testing.T) {
	b := newBroker(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case api.RouteCheckpoint:
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write(testNote)
		case api.RouteEvents:
			w.Header().Set("Content-Type", typeNDJSON)
			_, _ = io.WriteString(w, `{"idx":1,"event":{"v":1}}`+"\n"+`{"idx":5,"event":{"v":1},"details":{}}`+"\n"+endLine+"\n")
		default:
			w.Header().Set("Content-Type", typeBytes)
			_, _ = io.WriteString(w, "bytes of "+r.PathValue("id")+r.URL.Path)
		}
	})
	c := b.client(t, nil)
	ctx := context.Background()
	if note, err := c.Checkpoint(ctx); err != nil || string(note) != string(testNote) {
		t.Errorf("%q, %v", note, err)
	}
	events, err := collect(c.Events(ctx, url.Values{api.ParamQuery: {"user:\"a b\"*"}}))
	want := []api.Event{{Index: 1, Envelope: json.RawMessage(`{"v":1}`)}, {Index: 5, Envelope: json.RawMessage(`{"v":1}`), Details: json.RawMessage(`{}`)}}
	if d := cmp.Diff(want, events); err != nil || d != "" {
		t.Error(err, d)
	}
	for range c.Events(ctx, nil) { // leaving early is no error and leaks nothing
		break
	}
	rec, err := c.Recording(ctx, RecordingRequest{ID: "ssh_a/../b", Purpose: "play", Reason: "INC 1"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(rec)
	if err := errors.Join(err, rec.Close()); err != nil || !strings.HasPrefix(string(data), "bytes of") {
		t.Errorf("%q, %v", data, err)
	}
	last := b.requests()[len(b.requests())-1]
	if d := cmp.Diff(seen{Method: "GET", Path: "/v1/recordings/ssh_a%2F..%2Fb", Query: "purpose=play&reason=INC+1", Proof: true, Token: true}, last); d != "" {
		t.Error(d)
	}
	if _, err := c.Recording(ctx, RecordingRequest{ID: "..", Purpose: "play"}); !api.IsKind(err, api.KindInvalid) {
		t.Errorf("got %v", err)
	}
}

// A full disk is no sign of a rewritten log.
func TestCheckpointThatCannotBeKept(t *testing.T) {
	c := newBroker(t, answers(api.Roles{})).client(t, func(cfg *Config) {
		cfg.OnCheckpoint = func([]byte) error {
			return fmt.Errorf("remember: %w", &fs.PathError{Op: "write", Path: "/home/a/secret", Err: syscall.ENOSPC})
		}
	})
	_, err := c.Roles(context.Background())
	p := api.AsProblem(err)
	if !api.IsKind(err, api.KindInternal) || !strings.Contains(p.Detail, "no space left") || strings.Contains(p.Detail, "secret") || strings.Contains(p.Hint, "rewritten") {
		t.Errorf("detail %q, hint %q", p.Detail, p.Hint)
	}
}
