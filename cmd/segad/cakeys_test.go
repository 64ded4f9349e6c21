package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sega/broker"
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
	known, err := readKnownKeys(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	ring := keyring{open: map[string]ssh.Signer{}, known: known}
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

// TestShutKeysAreKnown: which key a place had is known to the next start, while the configuration names the place.
func TestShutKeysAreKnown(t *testing.T) {
	keys, dir := agent.NewKeyring(), t.TempDir()
	var first ssh.PublicKey
	for _, name := range []string{"access", "access-2", "hop", "front", "host"} {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err == nil && name == "access" {
			first, err = ssh.NewPublicKey(public)
		}
		if err = errors.Join(err, keys.Add(agent.AddedKey{PrivateKey: &private, Comment: name})); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keys, c) }()
		}
	}()
	place := func(name string) string { return "sshagentkms:" + name + "?socket=" + socket }
	ca := config.CA{Access: config.Keys{place("access"), place("access-2")}, Hop: config.Keys{place("hop")}, Front: config.Keys{place("front")}, Host: config.Keys{place("host")}}
	start := func() broker.CAs {
		t.Helper()
		var c broker.Config
		if err := wireCAs(t.Context(), &c, "broker.yaml", filepath.Join(dir, "keys"), ca, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		return c.CAs
	}
	if cas := start(); len(cas.Access) != 2 || len(cas.Shut) > 0 {
		t.Fatalf("%d keys, %v shut", len(cas.Access), cas.Shut)
	}
	if err := keys.Remove(first); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it is not forgotten
		if cas := start(); len(cas.Access) != 1 || len(cas.Shut) != 1 || cas.Shut[0].CA != "access" || !bytes.Equal(cas.Shut[0].Key.Marshal(), first.Marshal()) {
			t.Errorf("%d keys, %v shut", len(cas.Access), cas.Shut)
		}
	}
	all := ca.Access
	ca.Access = all[1:]
	start()
	ca.Access = all // named again, and nobody has seen it since
	if cas := start(); len(cas.Shut) > 0 || len(cas.Unopened) != 1 {
		t.Errorf("%v shut, not opened: %v", cas.Shut, cas.Unopened)
	}
	for _, broken := range []string{"", "{", "null", `{"a": "no key"}`} {
		if err := os.WriteFile(filepath.Join(dir, "keys"), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := wireCAs(t.Context(), &broker.Config{}, "broker.yaml", filepath.Join(dir, "keys"), ca, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("a broken file was taken: %q", broken)
		}
	}
}
