//go:build linux

package host

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// TestParseListener reads lines as Linux 6 writes them.
func TestParseListener(t *testing.T) {
	for name, tt := range map[string]struct{ line, at, inode string }{
		"IPv4":        {"   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 28637 1 0000000000000000 100 0 0 10 0", "127.0.0.1:22", "28637"},
		"anywhere":    {"   1: 00000000:08AE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1", "0.0.0.0:2222", "7"},
		"IPv6":        {"   0: B80D0120000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9 1", "[2001:db8::1]:22", "9"},
		"connected":   {"   1: 0100007F:0016 0100007F:ABCD 01 00000000:00000000 00:00000000 00000000     0        0 28637 1", "", ""},
		"head":        {"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", "", ""},
		"odd address": {"   0: 01007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 28637 1", "", ""},
		"cut off":     {"   0: 0100007F:0016 00000000:0000 0A", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			at, inode, ok := parseListener(tt.line)
			if ok != (tt.at != "") || ok && (at != netip.MustParseAddrPort(tt.at) || inode != tt.inode) {
				t.Errorf("read %v, %q, %v", at, inode, ok)
			}
		})
	}
}

// TestListenersAt finds this process's own sockets among those of the machine, and no sshd behind them.
func TestListenersAt(t *testing.T) {
	for _, network := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", network)
		if err != nil {
			t.Logf("%s: %v", network, err) // a machine without IPv6
			continue
		}
		defer l.Close()
		sockets, err := listenersAt([]string{l.Addr().String(), "not an address"})
		if err != nil || len(sockets) != 1 || heldBy("/proc/self", sockets) != sockets[0] {
			t.Errorf("%s: %v, %v", network, sockets, err)
		}
		if p, err := byListener([]string{l.Addr().String()}); err != nil || p.pid != 0 {
			t.Errorf("%s: %+v, %v", network, p, err)
		}
	}
	if a, b := imageOf("/proc/self"), imageOf("/proc/1"); a == "" || a == "0" || a != imageOf("/proc/self") {
		t.Errorf("image %q, of another %q", a, b)
	}
}

// FuzzParseListener: what is read is on the line.
func FuzzParseListener(f *testing.F) {
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		f.Add(line)
	}
	f.Add("0: 00000000000000000000000000000000:0016 x 0A 0 0 0 0 0 9")
	f.Fuzz(func(t *testing.T, line string) {
		if at, inode, ok := parseListener(line); ok && (!at.IsValid() || !strings.Contains(line, inode)) {
			t.Errorf("%q: %v, %q", line, at, inode)
		}
	})
}
