package bastion

import (
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

// goHost is a host whose every word the test decides.
type goHost struct {
	f        *fakeControl
	listener net.Listener
	signer   ssh.Signer
	handle   func(ssh.Channel, <-chan *ssh.Request)
	offered  func(ssh.NewChannel) (refused bool) // may be nil
	global   func(*ssh.Request) (bool, []byte)   // may be nil: refused

	mu    sync.Mutex
	conns []ssh.Conn
	seen  []string // principals of the certificates that logged in
	wg    sync.WaitGroup
}

// newGoHost serves sessions with handle under a certificate for hostID. identity may replace the certificate.
func (f *fakeControl) newGoHost(t testing.TB, name, hostID string, handle func(ssh.Channel, <-chan *ssh.Request), identity ...ssh.Signer) *goHost {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &goHost{f: f, listener: l, handle: handle}
	if len(identity) > 0 {
		h.signer = identity[0]
	} else {
		h.signer = f.hostSigner(t, f.hosts, hostID)
	}
	h.wg.Go(h.serve)
	t.Cleanup(func() {
		_ = l.Close()
		h.hangUp()
		h.wg.Wait()
	})
	f.set(func() { f.inventory[name] = testHost{address: l.Addr().String(), hostID: hostID} })
	return h
}

func (f *fakeControl) hostSigner(t testing.TB, ca *authority, hostID string) ssh.Signer {
	t.Helper()
	plain := newSigner(t)
	after, before := sshca.Host.Window(time.Now(), time.Hour)
	cert, err := sshca.NewHost(sshca.HostParams{Key: plain.PublicKey(), Serial: ca.next(t), KeyID: hostID, Names: []string{hostID}, ValidAfter: after, ValidBefore: before})
	ca.sign(t, cert, err)
	signer, err := ssh.NewCertSigner(cert, plain)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func (h *goHost) serve() {
	for {
		nc, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.wg.Go(func() { h.serveConn(nc) })
	}
}

func (h *goHost) serveConn(nc net.Conn) {
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if cert, ok := key.(*ssh.Certificate); ok {
			h.seen = append(h.seen, cert.ValidPrincipals...)
		}
		return nil, nil
	}}
	config.AddHostKey(h.signer)
	conn, chans, reqs, err := ssh.NewServerConn(nc, config)
	if err != nil {
		return
	}
	h.mu.Lock()
	h.conns = append(h.conns, conn)
	h.mu.Unlock()
	h.wg.Go(func() {
		for r := range reqs {
			var ok bool
			var answer []byte
			if h.global != nil {
				ok, answer = h.global(r)
			}
			_ = r.Reply(ok, answer)
		}
	})
	for c := range chans {
		if h.offered != nil && h.offered(c) {
			continue
		}
		ch, reqs, err := c.Accept()
		if err != nil {
			return
		}
		h.wg.Go(func() { h.handle(ch, reqs) })
	}
}

// conn returns the last connection to the host.
func (h *goHost) conn() ssh.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns[len(h.conns)-1]
}

// hangUp closes every connection of the host.
func (h *goHost) hangUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		_ = c.Close()
	}
}

func (h *goHost) logins() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.seen...)
}

// echo accepts every request, and sends back what it reads until the person is done.
func echo(ch ssh.Channel, reqs <-chan *ssh.Request) {
	started := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		once := sync.OnceFunc(func() { close(started) })
		defer once()
		for r := range reqs {
			_ = r.Reply(true, nil)
			if r.Type == "shell" || r.Type == "exec" {
				once()
			}
		}
	})
	<-started
	buf := make([]byte, 64<<10)
	for {
		n, err := ch.Read(buf)
		if _, werr := ch.Write(buf[:n]); err != nil || werr != nil {
			break
		}
	}
	_, _ = ch.SendRequest("exit-status", false, make([]byte, 4))
	_ = ch.Close()
	wg.Wait()
}
