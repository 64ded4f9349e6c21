//go:build linux

package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOperatorsSocketIsOurs: the socket is for this account alone, a dead one's place is taken, a living one's and a file's are not.
func TestOperatorsSocketIsOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := listenOperators(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", err, info.Mode())
	}
	if _, err := listenOperators(path); err == nil || !strings.Contains(err.Error(), "another broker") {
		t.Errorf("beside a broker that lives: %v", err)
	}
	accepted := make(chan net.Conn, 2)
	go func(l net.Listener) { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}(l)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	who, err := operator(<-accepted)
	if err != nil || !strings.HasPrefix(who.Subject, "uid:") || who.Name == "" {
		t.Errorf("%v %+v", err, who)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if l, err = listenOperators(path); err != nil {
		t.Fatalf("in the place of a dead one: %v", err)
	}
	_ = l.Close()
	if err := os.WriteFile(path, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenOperators(path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if _, err := listenOperators(strings.Repeat("x", maxSocketPath+1)); err == nil || !strings.Contains(err.Error(), "operators") {
		t.Errorf("a path that is too long: %v", err)
	}
}
