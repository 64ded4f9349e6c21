package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

func TestIndexRoutes(t *testing.T) {
	ctx := context.Background()
	testRoutes(t, map[string]route{
		"hits": {api.Empty{}, func(c *Client) (any, error) {
			return api.Empty{}, c.IndexHits(ctx, api.IndexHits{ID: "isr_1", Sessions: []string{"ssh_1"}, UpTo: 7})
		}, seen{Method: "POST", Path: "/v1/indexer/hits", Proof: true, Token: true, Body: `{"id":"isr_1","sessions":["ssh_1"],"more":false,"up_to":7,"error":""}`}},
	})

	one := api.IndexSession{Index: 7, SessionID: "ssh_1", Start: json.RawMessage(`{"a":1}`), End: json.RawMessage(`{}`), Heads: []json.RawMessage{json.RawMessage(`{"n":1}`)}}
	b := newBroker(t, ndjson(onWire(t, one)+"\n"+endLine+"\n", nil))
	got, err := collect(b.client(t, nil).IndexSessions(ctx, -1))
	if diff := cmp.Diff([]api.IndexSession{one}, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got\n%s", err, diff)
	}
	if diff := cmp.Diff([]seen{{Method: "GET", Path: "/v1/indexer/sessions", Query: "after=-1", Proof: true, Token: true}}, b.requests()); diff != "" {
		t.Error(diff)
	}

	b = newBroker(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", typeBytes)
		_, _ = io.WriteString(w, "ciphertext")
	})
	in, err := b.client(t, nil).IndexRecording(ctx, "ssh_1/../x")
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(in)
	if err := errors.Join(err, in.Close()); err != nil || string(data) != "ciphertext" {
		t.Errorf("%q, %v", data, err)
	}
	if diff := cmp.Diff([]seen{{Method: "GET", Path: "/v1/indexer/recordings/ssh_1%2F..%2Fx", Proof: true, Token: true}}, b.requests()); diff != "" {
		t.Error(diff)
	}
	for _, id := range []string{"", ".", ".."} {
		if _, err := b.client(t, nil).IndexRecording(ctx, id); !api.IsKind(err, api.KindInvalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// TestIndexSearches: the stream lives on heartbeats, and every end of it is an error.
func TestIndexSearches(t *testing.T) {
	stop := errors.New("enough")
	heartbeat, search := onWire(t, api.IndexSearch{})+"\n", onWire(t, api.IndexSearch{ID: "isr_1", Text: "drop table", Limit: 3, UpTo: 9})+"\n"
	for name, c := range map[string]struct {
		text string
		end  func(http.ResponseWriter, *http.Request)
		stop bool
		want string
		got  int
	}{
		"refused by the caller": {heartbeat + search, hang, true, stop.Error(), 2},
		"ended":                 {heartbeat, nil, false, string(api.KindUnreachable), 1},
		"aborted":               {heartbeat + search, abort, false, string(api.KindUnreachable), 2},
		"silent":                {heartbeat, hang, false, string(api.KindUnreachable), 1},
		"no search":             {heartbeat + "[]\n", hang, false, string(api.KindInternal), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newBroker(t, ndjson(c.text, c.end)).client(t, func(cfg *Config) { cfg.FeedIdle = impatience })
			var got []api.IndexSearch
			err := client.IndexSearches(context.Background(), func(q api.IndexSearch) error {
				got = append(got, q)
				if c.stop && q.ID != "" {
					return stop
				}
				return nil
			})
			if problem := (*api.Problem)(nil); errors.As(err, &problem) {
				if string(problem.Kind) != c.want {
					t.Errorf("ended with %v", err)
				}
			} else if fmt.Sprint(err) != c.want {
				t.Errorf("ended with %v", err)
			}
			if len(got) != c.got || len(got) > 1 && got[1] != (api.IndexSearch{ID: "isr_1", Text: "drop table", Limit: 3, UpTo: 9}) {
				t.Errorf("got %+v", got)
			}
		})
	}
}
