package client

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

func TestRollups(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want []Rollup
		upTo int64
		bad  bool
	}{
		"some":               {`{"rolled_up":4096}` + "\n" + `{"cube":"user","day":"2026-01-02","kind":"ssh.cert","outcome":"success","email":"a@x","sub":"a","target":"","n":7}` + "\n" + endLine + "\n", []Rollup{{Cube: "user", Day: "2026-01-02", Kind: "ssh.cert", Outcome: "success", Email: "a@x", Sub: "a", N: 7}}, 4096, false},
		"none":               {`{"rolled_up":0}` + "\n" + endLine + "\n", nil, 0, false},
		"cut":                {`{"rolled_up":4096}` + "\n" + `{"n":7}` + "\n", []Rollup{{N: 7}}, 4096, true},
		"empty":              {"", nil, -1, true},
		"no first line":      {endLine + "\n", nil, -1, true},
		"of how many":        {`{"n":7}` + "\n" + endLine + "\n", nil, -1, true},
		"a line that is not": {`{"rolled_up":1}` + "\n" + `{"n":"x"}` + "\n" + endLine + "\n", nil, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", typeNDJSON)
				_, _ = io.WriteString(w, c.body)
			})
			var got []Rollup
			upTo := int64(-1)
			err := b.client(t, nil).Rollups(context.Background(), func(n int64) { upTo = n }, func(r Rollup) { got = append(got, r) })
			if d := cmp.Diff(c.want, got); d != "" || (err != nil) != c.bad || upTo != c.upTo {
				t.Errorf("%d, %v, %s", upTo, err, d)
			}
		})
	}
}

func TestTile(t *testing.T) {
	size := maxTile
	b := newBroker(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", typeBytes)
		_, _ = io.WriteString(w, strings.Repeat("x", size))
	})
	c := b.client(t, nil)
	if data, err := c.Tile(context.Background(), "tile/0/x001/234"); err != nil || len(data) != maxTile {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if d := cmp.Diff([]seen{{Method: "GET", Path: "/tlog/tile/0/x001/234"}}, b.requests()); d != "" {
		t.Error(d)
	}
	size++
	if _, err := c.Tile(context.Background(), "tile/0/000"); err == nil {
		t.Error("more than a tile was taken")
	}
}

func TestEventProof(t *testing.T) {
	want := api.Proof{Index: 7, Body: []byte("{}"), Inclusion: [][]byte{{1}}, Checkpoint: []byte("note")}
	b := newBroker(t, answers(want))
	c := b.client(t, nil)
	got, err := c.EventProof(context.Background(), "evt_a/../b")
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Error(err, d)
	}
	if d := cmp.Diff([]seen{{Method: "GET", Path: "/v1/audit/proof/evt_a%2F..%2Fb", Proof: true, Token: true}}, b.requests()); d != "" {
		t.Error(d)
	}
	for _, name := range []string{"", ".", ".."} {
		if _, err := c.EventProof(context.Background(), name); !api.IsKind(err, api.KindInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
