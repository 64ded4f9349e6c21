//go:build unix

package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

const (
	serverVersion = "SSH-2.0-sega-dev-host"
	loginGrace    = 30 * time.Second
	maxAuthTries  = 6  // sshd's MaxAuthTries
	maxSessions   = 10 // sshd's MaxSessions, for each connection
)

// Server is the stand-in. Make it with New, run it with Run.
type Server struct {
	cfg     Config
	gate    gate
	account account
	ssh     *ssh.ServerConfig
	conns   sync.WaitGroup
}

// New checks the configuration. The server answers nothing before Run.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	account, err := currentAccount(cfg.Home)
	if err != nil {
		return nil, fmt.Errorf("dev host: %w", err)
	}
	if account.name != cfg.Login {
		return nil, fmt.Errorf("dev host: it runs as %q and cannot open the account %q", account.name, cfg.Login)
	}
	principal, err := sshca.HopPrincipal(cfg.Login, cfg.HostID)
	if err != nil {
		return nil, fmt.Errorf("dev host: %w", err)
	}
	s := &Server{cfg: cfg, account: account, gate: gate{cas: cfg.UserCAs, login: cfg.Login, principal: principal, now: cfg.Now}}
	s.ssh = s.serverConfig()
	return s, nil
}

// serverConfig offers what current OpenSSH prefers, and certificates as the only way in.
func (s *Server) serverConfig() *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519},
			Ciphers:      []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM},
			MACs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM}, // unused under AES-GCM
		},
		PublicKeyAuthAlgorithms: []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
		MaxAuthTries:  maxAuthTries,
		ServerVersion: serverVersion,
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			return &ssh.Permissions{}, s.offered(meta, key)
		},
		VerifiedPublicKeyCallback: s.signed,
	}
	c.AddHostKey(s.cfg.HostKey)
	return c
}

// offered answers whether a key would do; anybody may offer anybody's certificate.
func (s *Server) offered(meta ssh.ConnMetadata, key ssh.PublicKey) error {
	_, err := s.gate.check(meta.User(), key, peer(meta.RemoteAddr()))
	if err != nil {
		s.cfg.Log.Info("key refused", "source", meta.RemoteAddr().String(), "user", meta.User(), "error", err)
	}
	return err
}

type certKey struct{} // key of the signer's certificate in Permissions.ExtraData

// signed runs once the key has signed this connection; the identity comes from here alone.
func (s *Server) signed(meta ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
	cert, err := s.gate.check(meta.User(), key, peer(meta.RemoteAddr()))
	if err != nil {
		return nil, err
	}
	return &ssh.Permissions{ExtraData: map[any]any{certKey{}: cert}}, nil
}

// peer returns the zero address, which no certificate allows, for what is no TCP address.
func peer(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr()
}

// Run serves until ctx ends; then it ends all sessions with their programs and waits for them. It
// may be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.conns.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.cfg.Listener.Close() })
	defer stop()
	for {
		c, err := s.cfg.Listener.Accept()
		switch {
		case err == nil:
			s.conns.Go(func() { s.serve(ctx, c) })
		case ctx.Err() != nil:
			return nil
		default:
			return errors.Join(fmt.Errorf("dev host: accept: %w", err), s.cfg.Listener.Close())
		}
	}
}

// serve runs one connection to its end.
func (s *Server) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(loginGrace))
	conn, chans, reqs, err := ssh.NewServerConn(c, s.ssh)
	if err != nil {
		s.cfg.Log.Info("login failed", "source", c.RemoteAddr().String(), "error", err)
		return
	}
	_ = c.SetDeadline(time.Time{})
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { ssh.DiscardRequests(reqs) }) // forwarding among them: refused
	s.serveChannels(conn, chans, &work)
}

// serveChannels opens sessions until the connection ends, and refuses every other channel.
func (s *Server) serveChannels(conn *ssh.ServerConn, chans <-chan ssh.NewChannel, work *sync.WaitGroup) {
	cert, ok := conn.Permissions.ExtraData[certKey{}].(*ssh.Certificate)
	if !ok {
		_ = conn.Close()
	}
	s.cfg.Log.Info("certificate accepted", "source", conn.RemoteAddr().String(), "login", conn.User(), "certificate", certID(cert))
	free := make(chan struct{}, maxSessions)
	for nc := range chans {
		switch {
		case !ok || nc.ChannelType() != "session":
			_ = nc.Reject(ssh.Prohibited, "only sessions are served here")
			continue
		case len(free) == cap(free):
			_ = nc.Reject(ssh.ResourceShortage, "too many sessions on one connection")
			continue
		}
		free <- struct{}{}
		work.Go(func() {
			defer func() { <-free }()
			s.session(conn, cert, nc)
		})
	}
}

func certID(cert *ssh.Certificate) slog.Value {
	if cert == nil {
		return slog.StringValue("")
	}
	return slog.GroupValue(slog.String("id", cert.KeyId), slog.Uint64("serial", cert.Serial))
}
