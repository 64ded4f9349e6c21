//go:build linux

package host

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"sega/broker/api"
	"sega/keychain/secret"
)

// newHostOf returns the configuration of a host that has enrolled at a broker of one bundle, and that broker. As the real one does, it
// holds a question about the version that it has: here for good.
func newHostOf(t *testing.T, b api.HostBundle) (Config, *httptest.Server) {
	t.Helper()
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("POST "+api.RouteMachine, func(w http.ResponseWriter, _ *http.Request) {
		s := api.MachineSession{Token: secret.New([]byte("sega_s_" + "0123456789abcdefghijklmnopqrstuvwxyz")), SessionID: "ses_abcdefghijkmnpqrstuv",
			Machine: api.Machine{ID: "mch_abcdefghijkmnpqrstuv", Name: b.Name, Kind: api.MachineHost}, Expires: time.Now().Add(time.Hour)}
		reply(w, s.Wire())
	})
	mux.HandleFunc("GET "+api.RouteHostBundle, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get(api.ParamVersion) == strconv.FormatInt(b.Version, 10) {
			<-r.Context().Done()
			return
		}
		reply(w, b)
	})
	broker := httptest.NewTLSServer(mux)
	t.Cleanup(broker.Close)
	c := Config{Broker: broker.URL, Name: b.Name, By: ByCommand, dir: t.TempDir()}
	c.CAFile, c.Socket = c.file(caName), c.file("socket")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: broker.Certificate().Raw})
	if _, err := ensureKey(c.file(keyName)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.CAFile, ca, 0o644); err != nil {
		t.Fatal(err)
	}
	return c, broker
}

// enrolled writes what an enrolment writes: the bundle, without the accounts that the daemon is to make.
func enrolled(t *testing.T, c Config, b api.HostBundle) {
	t.Helper()
	b.Accounts = []api.HostAccount{}
	all, err := c.filesOf(cached{Bundle: b})
	if err == nil {
		_, err = append(all, change{c.file(configName), c.marshal(), 0o644}).apply()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAccountsComeAtOnce: a daemon that starts behind an enrolment makes the accounts of the bundle in hand, and waits for no news.
func TestAccountsComeAtOnce(t *testing.T) {
	k, said := newTestKeeper(t)
	v, _ := bundleOf(t)
	v.Bundle.Accounts = []api.HostAccount{{Login: "alice", Person: "a", Name: "Alice", Groups: []string{"engineering"}}}
	c, _ := newHostOf(t, v.Bundle)
	c.Accounts = &Accounts{Groups: []string{"engineering"}}
	enrolled(t, c, v.Bundle)
	d, err := NewDaemon(c.dir, "sega/test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d.keeper.prefix = k.prefix
	d.cfg.PlainKeys = true // a revocation list is not what is asked about
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := d.once(ctx); err != nil {
		t.Fatal(err)
	}
	if k.line(t, "passwd", "alice") == "" || len(d.now().Bundle.Accounts) != 1 {
		t.Errorf("the account is not made: %v, %v", d.now().Bundle.Accounts, said)
	}
	if !d.now().heard {
		t.Error("it does not wait for news from then on")
	}
}

// TestStatusWithoutBroker: a daemon says since when its broker is away, to root alone why, and no more when it is back.
func TestStatusWithoutBroker(t *testing.T) {
	v, _ := bundleOf(t)
	c, broker := newHostOf(t, v.Bundle)
	c.PlainKeys = true // a revocation list is not what is asked about
	enrolled(t, c, v.Bundle)
	d, err := NewDaemon(c.dir, "sega/test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d.tried(d.once(t.Context()), time.Now())
	if got := d.reply(t.Context(), request{Op: opStatus}, 0); !got.Lost.IsZero() || got.LostWhy != "" {
		t.Errorf("the broker answers, and the status is %+v", got)
	}
	broker.Close()
	since := time.Now()
	for range 2 {
		d.tried(d.once(t.Context()), since)
		since = since.Add(-time.Minute) // the first counts
	}
	got := d.reply(t.Context(), request{Op: opStatus}, 0)
	if !got.Lost.Equal(since.Add(2*time.Minute)) || !strings.Contains(got.LostWhy, "cannot be reached") {
		t.Errorf("the broker is away since %s, and the status is %+v", since, got)
	}
	if others := d.reply(t.Context(), request{Op: opStatus}, 65534); !others.Lost.Equal(got.Lost) || others.LostWhy != "" {
		t.Errorf("others see %+v", others)
	}
	d.tried(nil, time.Now())
	if got := d.reply(t.Context(), request{Op: opStatus}, 0); !got.Lost.IsZero() || got.LostWhy != "" {
		t.Errorf("the broker answers again, and the status is %+v", got)
	}
}
