package client

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

const beatLine = `{"type":"heartbeat","lease_ms":30000,"checkpoint":"bmV3ZXI=","session":{"now":"2026-01-02T03:04:05Z","expires":"2026-01-02T04:04:05Z","standing":"s"}}` + "\n"

func TestSessionFeed(t *testing.T) {
	text := trustLine + beatLine + `{"type":"revoke","revocation":{"index":12,"login_id":"ses_1"}}` + "\n" +
		`{"type":"end","problem":{"kind":"revoked","status":403,"detail":"access was \u001b[2Jrevoked","hint":"ask"}}` + "\n"
	b := newBroker(t, ndjson(text, nil))
	var order []string
	c := b.client(t, func(cfg *Config) {
		cfg.OnCheckpoint = func(note []byte) error { order = append(order, string(note)); return nil }
	})
	var items []api.FeedItem
	err := c.SessionFeed(context.Background(), func(item api.FeedItem) error {
		order, items = append(order, item.Type), append(items, item)
		return nil
	})
	want := api.Errorf(api.KindRevoked, "access was  [2Jrevoked").WithHint("ask")
	if d := cmp.Diff(error(want), err); d != "" {
		t.Errorf("ends with (-want +got)\n%s", d)
	}
	// The first checkpoint is that of the answer which asked for a nonce.
	if d := cmp.Diff([]string{string(testNote), "trust", "newer", "heartbeat", "revoke"}, order[1:]); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(&api.FeedSession{Now: routeTime, Expires: routeTime.Add(time.Hour), Standing: "s"}, items[1].Session); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]seen{{Method: "GET", Path: "/v1/session/feed", Proof: true, Token: true}}, b.requests()); d != "" {
		t.Error(d)
	}
}

// TestSessionFeedThatFails: what cannot be obeyed ends it, and what was lost is told from what was ended.
func TestSessionFeedThatFails(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want api.Kind
		seen int
	}{
		"lost":                    {trustLine + beatLine, api.KindUnreachable, 2},
		"logged out":              {trustLine + `{"type":"end","problem":{"kind":"unauthenticated"}}` + "\n", api.KindUnauthenticated, 1},
		"an end without a reason": {trustLine + `{"type":"end"}` + "\n", api.KindInternal, 1},
		"an end of no kind":       {trustLine + `{"type":"end","problem":{"detail":"x"}}` + "\n", api.KindInternal, 1},
		"an end of a new kind":    {trustLine + `{"type":"end","problem":{"kind":"frozen"}}` + "\n", api.KindInternal, 1},
		"an end at once":          {`{"type":"end","problem":{"kind":"revoked"}}` + "\n", api.KindInternal, 0},
		"no session":              {trustLine + `{"type":"heartbeat","lease_ms":30000}` + "\n", api.KindInternal, 1},
		"no time":                 {trustLine + strings.Replace(beatLine, `"now":"2026-01-02T03:04:05Z",`, "", 1), api.KindInternal, 1},
		"no expiry":               {trustLine + strings.Replace(beatLine, `"expires":"2026-01-02T04:04:05Z",`, "", 1), api.KindInternal, 1},
		"no standing":             {trustLine + strings.Replace(beatLine, `"standing":"s"`, `"standing":""`, 1), api.KindInternal, 1},
		"no lease":                {trustLine + strings.Replace(beatLine, `"lease_ms":30000,`, "", 1), api.KindInternal, 1},
		"a bad checkpoint":        {trustLine + strings.Replace(beatLine, "bmV3ZXI=", base64.StdEncoding.EncodeToString([]byte("forked")), 1), api.KindInternal, 1},
		"revoke of nobody":        {trustLine + `{"type":"revoke","revocation":{"index":1}}` + "\n", api.KindInternal, 1},
		"unknown type":            {trustLine + `{"type":"revoke_host"}` + "\n", api.KindInternal, 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := newBroker(t, ndjson(tc.text, nil)).client(t, func(cfg *Config) {
				cfg.OnCheckpoint = func(note []byte) error {
					if string(note) == "forked" {
						return errors.New("forked")
					}
					return nil
				}
			})
			seen := 0
			err := c.SessionFeed(context.Background(), func(api.FeedItem) error { seen++; return nil })
			if !api.IsKind(err, tc.want) || seen != tc.seen {
				t.Errorf("%d items, %v", seen, err)
			}
		})
	}
}

// TestSessionFeedHandsErrorsOn: an error of who follows comes back as it is.
func TestSessionFeedHandsErrorsOn(t *testing.T) {
	enough := errors.New("enough")
	c := newBroker(t, ndjson(trustLine+beatLine, hang)).client(t, nil)
	if err := c.SessionFeed(context.Background(), func(api.FeedItem) error { return enough }); err != enough {
		t.Errorf("got %v", err)
	}
}

// TestBastionFeedHasNoEnd: a bastion does not take the end of a session's feed for an order.
func TestBastionFeedHasNoEnd(t *testing.T) {
	c := newBroker(t, ndjson(trustLine+`{"type":"end","problem":{"kind":"revoked"}}`+"\n", hang)).client(t, nil)
	if err := c.Feed(context.Background(), -1, nil, func(api.FeedItem) error { return nil }); !api.IsKind(err, api.KindInternal) {
		t.Errorf("got %v", err)
	}
}

func FuzzSessionItem(f *testing.F) {
	f.Add([]byte(trustLine))
	f.Add([]byte(beatLine))
	f.Add([]byte(`{"type":"revoke","revocation":{"iss":"i","sub":"s"}}`))
	f.Add([]byte(`{"type":"end","problem":{"kind":"revoked","detail":"\u001b"}}`))
	c := &Client{origin: "https://sega.example"}
	f.Fuzz(func(t *testing.T, line []byte) {
		handled := false
		err := c.feedItem(line, false, checkSessionItem, func(item api.FeedItem) error {
			handled = true
			if item.Type == api.FeedHeartbeat && (item.Session == nil || item.Session.Standing == "" || item.LeaseMS <= 0) ||
				item.Type == api.FeedRevoke && !oneSubject(*item.Revocation) || item.Type == api.FeedEnd && item.Problem.Kind == "" {
				t.Fatalf("item %+v was handed on", item)
			}
			return nil
		})
		if (err == nil) != handled {
			t.Fatalf("handled %v, %v", handled, err)
		}
	})
}
