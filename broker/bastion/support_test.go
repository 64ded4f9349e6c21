package bastion

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// lockedBuffer collects what an SSH session writes while the test looks on.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func decode(t testing.TB, raw []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
}

// jump opens a channel to addr through an outer connection, as `ssh -W` does.
func (w *world) jump(t testing.TB, c credential, addr string) (net.Conn, error) {
	t.Helper()
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		t.Fatal(err)
	}
	outer := w.mustDial(t, "ada", c.signer)
	ch, reqs, err := outer.OpenChannel("direct-tcpip", ssh.Marshal(directTCPIP{host, uint32(port), "127.0.0.1", 1}))
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(reqs)
	conn := newChannelConn(ch, outer.LocalAddr(), outer.RemoteAddr())
	go conn.carry()
	return conn, nil
}
