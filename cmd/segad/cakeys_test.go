package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/agent"

	"sega/cmd/segad/config"
)

// TestKeysStayOpen: however often the configuration is read, a key of an agent is one connection, until it is not named any more.
func TestKeysStayOpen(t *testing.T) {
	keys := agent.NewKeyring()
	for _, name := range []string{"access", "access-2", "hop", "front", "host"} {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := keys.Add(agent.AddedKey{PrivateKey: &private, Comment: name}); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var open atomic.Int64
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Add(1)
			go func() {
				_ = agent.ServeAgent(keys, c)
				open.Add(-1)
			}()
		}
	}()
	place := func(name string) string { return "sshagentkms:" + name + "?socket=" + socket }
	ca := config.CA{Access: config.Keys{place("access"), place("gone"), place("access-2")}, Hop: config.Keys{place("hop")}, Front: config.Keys{place("front")}, Host: config.Keys{place("host")}}
	ring := keyring{}
	settles := func(want int64) {
		t.Helper()
		for start := time.Now(); open.Load() != want; time.Sleep(time.Millisecond) {
			if time.Since(start) > 5*time.Second {
				t.Fatalf("%d connections are open, not %d", open.Load(), want)
			}
		}
	}
	for range 5 {
		cas, err := ring.openCAs(t.Context(), "broker.yaml", ca, slog.New(slog.DiscardHandler))
		if err != nil || len(cas.Access) != 2 || !slices.Equal(cas.Unopened, []string{"access"}) {
			t.Fatalf("%d keys, not opened: %v, %v", len(cas.Access), cas.Unopened, err)
		}
	}
	settles(5)
	ca.Access = config.Keys{place("access-2")}
	if cas, err := ring.openCAs(t.Context(), "broker.yaml", ca, slog.New(slog.DiscardHandler)); err != nil || len(cas.Access) != 1 || len(cas.Unopened) > 0 {
		t.Fatalf("%d keys, not opened: %v, %v", len(cas.Access), cas.Unopened, err)
	}
	settles(4)
}
