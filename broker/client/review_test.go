package client

import (
	"context"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

func TestEventLines(t *testing.T) {
	const one = `{"idx":7,"event":{"v":1},"details":{"a":1}}` + "\n"
	beat := `{"heartbeat":true}` + "\n"
	event := api.Event{Index: 7, Envelope: []byte(`{"v":1}`), Details: []byte(`{"a":1}`)}
	for name, c := range map[string]struct {
		text   string
		events int
		kind   api.Kind // "" for none
		detail string
	}{
		"whole":               {one + one + endLine + "\n", 2, "", ""},
		"none":                {endLine + "\n", 0, "", ""},
		"heartbeats":          {beat + one + beat + beat + one + endLine + "\n", 2, "", ""},
		"no last line":        {one + beat, 1, api.KindUnreachable, ""},
		"a problem":           {one + `{"problem":{"kind":"denied","detail":"no \u001b[2J more","hint":"x"}}` + "\n" + one + endLine + "\n", 1, api.KindDenied, "no  [2J more"},
		"a problem, no words": {`{"problem":{"kind":"revoked"}}` + "\n", 0, api.KindRevoked, "the broker ended the list: revoked"},
		"an unknown problem":  {`{"problem":{"kind":"shoe","detail":"x"}}` + "\n", 0, api.KindInternal, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t, ndjson(c.text, nil)).client(t, nil)
			events, err := collect(b.Events(context.Background(), url.Values{"q": {"kind:x"}}))
			if len(events) != c.events || (err == nil) != (c.kind == "") || err != nil && (!api.IsKind(err, c.kind) || c.detail != "" && err.Error() != c.detail) {
				t.Errorf("%d events, %v", len(events), err)
			}
			for _, e := range events {
				if diff := cmp.Diff(event, e); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// TestEventsFollow: heartbeats keep a stream alive for longer than any silence may last; a reader
// who has had enough ends it.
func TestEventsFollow(t *testing.T) {
	t.Parallel()
	beats := ""
	for range 5 {
		beats += `{"heartbeat":true}` + "\n"
	}
	b := newBroker(t, ndjson(beats+`{"idx":7,"event":{}}`+"\n", hang)).client(t, func(cfg *Config) { cfg.Timeout = impatience })
	for e, err := range b.Events(context.Background(), url.Values{api.ParamFollow: {"1"}}) {
		if err != nil || e.Index != 7 {
			t.Errorf("%+v, %v", e, err)
		}
		break
	}
	_, err := collect(b.Events(context.Background(), url.Values{api.ParamFollow: {"1"}}))
	if !api.IsKind(err, api.KindUnreachable) {
		t.Errorf("silence is %v", err)
	}
}

func TestCountLines(t *testing.T) {
	b := newBroker(t, ndjson(`{"key":["alice","2030-01-02"],"count":3}`+"\n"+`{"key":["bob",""],"count":1}`+"\n"+endLine+"\n", nil))
	groups, err := collect(b.client(t, nil).Count(context.Background(), url.Values{api.ParamBy: {"user,day"}}))
	want := []api.Group{{Key: []string{"alice", "2030-01-02"}, Count: 3}, {Key: []string{"bob", ""}, Count: 1}}
	if diff := cmp.Diff(want, groups); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if got := b.requests()[0]; got.Path != api.RouteCount {
		t.Errorf("asked %+v", got)
	}
}
