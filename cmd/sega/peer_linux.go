package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

// peerIsOurs reports whether the client of a connection within this machine is a process of this user,
// by the kernel's tables (proc_net(5)). What cannot be told is not ours.
func peerIsOurs(client, server net.Addr) bool {
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		uid, found := ownerOf(f, client, server)
		_ = f.Close()
		if found {
			return uid == os.Getuid()
		}
	}
	return false
}

// ownerOf finds the user of the client's end: the socket whose local port is the client's and whose
// remote port is the server's.
func ownerOf(table io.Reader, client, server net.Addr) (uid int, found bool) {
	c, ok := client.(*net.TCPAddr)
	s, okServer := server.(*net.TCPAddr)
	if !ok || !okServer {
		return 0, false
	}
	local, remote := fmt.Sprintf(":%04X", c.Port), fmt.Sprintf(":%04X", s.Port)
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 || !strings.HasSuffix(fields[1], local) || !strings.HasSuffix(fields[2], remote) || fields[3] != "01" { // established
			continue
		}
		uid, err := strconv.Atoi(fields[7])
		return uid, err == nil
	}
	return 0, false
}
