package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
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

// ownerOf finds the user of the client's end: of the socket that has the client's address, port and all, and is
// connected to the server's. By ports alone somebody else's would do, from another address of the loopback.
func ownerOf(table io.Reader, client, server net.Addr) (uid int, found bool) {
	c, ok := client.(*net.TCPAddr)
	s, okServer := server.(*net.TCPAddr)
	if !ok || !okServer {
		return 0, false
	}
	local, remote := kernelForms(c.AddrPort()), kernelForms(s.AddrPort())
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 || fields[3] != "01" { // established
			continue
		}
		for i := range local { // both ends of a socket have one form
			if fields[1] == local[i] && fields[2] == remote[i] {
				uid, err := strconv.Atoi(fields[7])
				return uid, err == nil
			}
		}
	}
	return 0, false
}

// kernelForms are an address as the table of IPv4 has it, and that of IPv6, where an IPv4 address is mapped:
// words of 32 bits in the machine's order, in hex.
func kernelForms(a netip.AddrPort) [2]string {
	form := func(raw []byte) string {
		var b strings.Builder
		for ; len(raw) > 0; raw = raw[4:] {
			fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(raw))
		}
		return fmt.Sprintf("%s:%04X", b.String(), a.Port())
	}
	long := a.Addr().As16()
	if short := a.Addr().Unmap(); short.Is4() {
		raw := short.As4()
		return [2]string{form(raw[:]), form(long[:])}
	}
	return [2]string{"", form(long[:])}
}
