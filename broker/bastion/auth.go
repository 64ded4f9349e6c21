package bastion

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

const (
	serverVersion = "SSH-2.0-sega"
	// maxAuthTries leaves room for agents that hold a few keys besides the certificate.
	maxAuthTries = 10
)

var (
	errPlainKey  = errors.New("plain keys are not accepted")
	errOtherCert = errors.New("the certificate inside ssh -J is not the one of the outer connection")
	errUnsigned  = errors.New("no certificate has signed")
)

// algorithms are those of the bastion's own side and of its dials. chacha20-poly1305 is left out:
// OpenSSH's client would choose it at 2.5 times the CPU.
func algorithms() ssh.Config {
	return ssh.Config{
		KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519},
		Ciphers:      []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM},
		MACs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM}, // unused under AES-GCM; never weaker
	}
}

func signatureAlgorithms() []string {
	return []string{ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
}

// authenticator judges the keys of one connection. It keeps nothing of what is offered: the
// identity is what handshake returns, the certificate whose key has signed.
type authenticator struct {
	b      *Bastion
	source netip.Addr
	outer  *ssh.Certificate // inside ssh -J: the only certificate that will do
	valid  *ssh.Certificate // the last one found good, for the report of a signature that is not
}

type certKey struct{} // key of the signer's certificate in Permissions.ExtraData

// handshake runs the server side of SSH on c and returns the connection with the certificate that
// signed it. It takes over c.
func (a *authenticator) handshake(c *bufferedConn, host ssh.Signer) (*ssh.ServerConn, *ssh.Certificate, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	g, version, err := greet(c)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	config := a.config(host)
	config.Ciphers = ciphersFor(version)
	conn, chans, reqs, err := ssh.NewServerConn(g, config)
	if err != nil {
		a.brokenOff(c, err)
		return nil, nil, nil, nil, err
	}
	if conn.Permissions != nil {
		if cert, ok := conn.Permissions.ExtraData[certKey{}].(*ssh.Certificate); ok {
			return conn, cert, chans, reqs, nil
		}
	}
	discard(conn, chans, reqs)
	return nil, nil, nil, nil, errUnsigned
}

func (a *authenticator) config(host ssh.Signer) *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config:                    algorithms(),
		PublicKeyAuthAlgorithms:   signatureAlgorithms(),
		MaxAuthTries:              maxAuthTries,
		ServerVersion:             serverVersion,
		PublicKeyCallback:         a.offered,
		VerifiedPublicKeyCallback: a.signed,
		AuthLogCallback:           a.unreadable,
	}
	c.AddHostKey(host)
	return c
}

// offered answers whether a key would do. Anybody may offer anybody's certificate, so it decides
// about nothing but the answer.
func (a *authenticator) offered(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	cert, err := a.check(meta, key)
	if err != nil {
		return nil, err
	}
	a.valid = cert
	return &ssh.Permissions{}, nil
}

// signed runs once the key has signed this connection. It checks anew, since time and trust move.
func (a *authenticator) signed(meta ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
	cert, err := a.check(meta, key)
	if err != nil {
		return nil, err
	}
	return &ssh.Permissions{ExtraData: map[any]any{certKey{}: cert}}, nil
}

func (a *authenticator) check(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Certificate, error) {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, errPlainKey
	}
	err := sshca.CheckAccess(cert, a.b.feed.trustNow().access, a.b.cfg.Now(), a.source)
	if err == nil && a.outer != nil && !bytes.Equal(cert.Marshal(), a.outer.Marshal()) {
		err = errOtherCert
	}
	if err != nil {
		err = refusedError{err}
		a.b.refusals.note(a.source, reasonOf(err), refusedCert(cert, meta).because(err))
		return nil, err
	}
	return cert, nil
}

// refusedError marks what has been reported already.
type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }

// unreadable reports keys that x/crypto refused to parse, certificates signed by certificates
// among them: those never reach the other callbacks.
func (a *authenticator) unreadable(meta ssh.ConnMetadata, method string, err error) {
	var refused refusedError
	if method != "publickey" || err == nil || errors.Is(err, errPlainKey) || errors.As(err, &refused) {
		return
	}
	reason := reasonUnreadable
	if strings.Contains(err.Error(), "invalid for certificates") { // x/crypto's words
		reason = reasonNested
	}
	a.b.refusals.note(a.source, reason, refusedCert(nil, meta).because(err))
}

// brokenOff reports a handshake that failed over a certificate found good: somebody shows one
// without its key.
func (a *authenticator) brokenOff(c net.Conn, err error) {
	var auth *ssh.ServerAuthError
	var network net.Error
	quiet := errors.As(err, &auth) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF)
	a.b.cfg.Log.Debug("handshake failed", "source", a.source, "error", err)
	if quiet || a.valid == nil {
		return
	}
	detail := refusedCert(a.valid, nil)
	detail.Signed = true
	a.b.refusals.note(a.source, reasonSignature, detail.because(err))
}

// discard serves a connection's channels until it is closed, as x/crypto wants it.
func discard(conn ssh.Conn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
	_ = conn.Close()
	for c := range chans {
		_ = c.Reject(ssh.Prohibited, "closing")
	}
	for range reqs {
	}
}
