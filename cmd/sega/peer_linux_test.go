package main

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
)

func TestPeerIsOurs(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if !peerIsOurs(server.RemoteAddr(), server.LocalAddr()) {
		t.Error("a connection of our own is another's")
	}
	gone := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	if peerIsOurs(gone, server.LocalAddr()) || peerIsOurs(&net.UnixAddr{}, server.LocalAddr()) {
		t.Error("what the kernel does not list is ours")
	}
}

// TestOwnerOf reads lines as the kernel writes them.
func TestOwnerOf(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     7        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     8        0 2 1 0 20 4 30 10 -1
   9: 0200007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     7        0 5 1 0 20 4 30 10 -1
   9: 0100007F:C001 0200007F:1F90 01 00000000:00000000 00:00000000 00000000     7        0 6 1 0 20 4 30 10 -1
   2: 0100007F:C001 0100007F:1F90 06 00000000:00000000 00:00000000 00000000     9        0 0 3 0
   3: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 3 1 0 20 4 30 10 -1
   4: 0100007F:C002 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     x        0 4
   5: cut
   6: 0000000000000000FFFF00000200007F:C005 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000     7        0 7 1 0 20 4 30 10 -1
   7: 0000000000000000FFFF00000100007F:C005 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 8 1 0 20 4 30 10 -1
`
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the table is of a machine of the other byte order")
	}
	at := func(port int) net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port} }
	for _, tt := range []struct {
		client int
		uid    int
		found  bool
	}{{0xC001, 1000, true}, {0xC005, 1001, true}, {0xC002, 0, false}, {0xC003, 0, false}, {0x1F90, 0, false}} {
		if uid, found := ownerOf(strings.NewReader(table), at(tt.client), at(0x1F90)); uid != tt.uid || found != tt.found {
			t.Errorf("%x: %d, %v", tt.client, uid, found)
		}
	}
}
