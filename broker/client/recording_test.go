package client

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// TestRecordingFollowed: a session may be silent for longer than any call may take; that its
// connection breaks is an error all the same.
func TestRecordingFollowed(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	b := newBroker(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", typeBytes)
		for _, part := range []string{"one", "two"} {
			_, _ = io.WriteString(w, part)
			w.(http.Flusher).Flush()
			select {
			case <-time.After(timeout + timeout/10):
			case <-r.Context().Done():
			}
		}
		abort(w, r)
	})
	c := b.client(t, func(cfg *Config) { cfg.Timeout = timeout })
	body, err := c.Recording(context.Background(), RecordingRequest{ID: "ssh_1", Purpose: api.PurposeTail, Reason: "INC", From: 7, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(body)
	if !api.IsKind(err, api.KindUnreachable) || string(data) != "onetwo" {
		t.Errorf("%q, %v", data, err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	last := b.requests()[len(b.requests())-1]
	if d := cmp.Diff("follow=1&from=7&purpose=tail&reason=INC", last.Query); d != "" {
		t.Error(d)
	}
}

// TestRecordingLeft: who leaves a recording that goes on does not wait for it.
func TestRecordingLeft(t *testing.T) {
	gone := make(chan struct{})
	b := newBroker(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", typeBytes)
		_, _ = io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(gone)
	})
	c := b.client(t, nil)
	body, err := c.Recording(context.Background(), RecordingRequest{ID: "ssh_1", Purpose: api.PurposeTail, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(body, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	<-gone
}
