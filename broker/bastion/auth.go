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
	errPlainKey     = errors.New("plain keys are not accepted")
	errUnregistered = errors.New("plain key that is not registered")
	errOtherCert    = errors.New("the certificate or key inside ssh -J is not the one of the outer connection")
	errUnsigned     = errors.New("no certificate has signed")
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
// identity is what handshake returns, the certificate or the registered key that has signed.
type authenticator struct {
	b      *Bastion
	source netip.Addr
	outer  *holder          // inside ssh -J: whose certificate or key is the only one that will do
	valid  *ssh.Certificate // the last one found good, for the report of a signature that is not
	tried  bool             // a key or something else was refused
}

type holderKey struct{} // key of the *holder in Permissions.ExtraData

// handshake runs the server side of SSH on c and returns the connection with who has
// signed it. It takes over c.
func (a *authenticator) handshake(c *bufferedConn, host ssh.Signer) (*ssh.ServerConn, *holder, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	g, version, err := greet(c)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	config := a.config(host)
	config.Ciphers = ciphersFor(version)
	conn, chans, reqs, err := ssh.NewServerConn(g, config)
	if err != nil {
		a.brokenOff(c, err)
		a.countWrong()
		return nil, nil, nil, nil, err
	}
	a.b.attempts.signed(a.source)
	if conn.Permissions != nil {
		if h, ok := conn.Permissions.ExtraData[holderKey{}].(*holder); ok {
			return conn, h, chans, reqs, nil
		}
	}
	discard(conn, chans, reqs)
	return nil, nil, nil, nil, errUnsigned
}

func (a *authenticator) config(host ssh.Signer) *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config:                    algorithms(),
		PublicKeyAuthAlgorithms:   signatureAlgorithms(),
		MaxAuthTries:              a.tries(),
		ServerVersion:             serverVersion,
		PublicKeyCallback:         a.offered,
		VerifiedPublicKeyCallback: a.signed,
		AuthLogCallback:           a.unreadable,
	}
	c.RekeyThreshold = a.b.cfg.Rekey
	if a.b.cfg.Banner != "" && a.outer == nil { // inside ssh -J it was shown outside
		c.BannerCallback = func(ssh.ConnMetadata) string { return terminalLines(a.b.cfg.Banner) }
	}
	c.AddHostKey(host)
	return c
}

// tries is how many keys this connection may show.
func (a *authenticator) tries() int {
	if a.b.attempts.held(a.source) {
		return heldTries
	}
	return maxAuthTries
}

// countWrong counts a connection that tried to authenticate, and did not. Who only looks who answers, a
// probe or a health check, has tried nothing.
func (a *authenticator) countWrong() {
	if a.tried && a.b.attempts.failed(a.source) {
		a.b.refusals.note(a.source, reasonHeld, refusal{})
	}
}

// offered answers whether a key would do. Anybody may offer anybody's certificate, so it decides
// about nothing but the answer. Of plain keys all are let sign while any is registered: who has the public
// half alone learns nothing.
func (a *authenticator) offered(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return &ssh.Permissions{}, a.checkPlain(key)
	}
	if err := a.check(meta, cert); err != nil {
		return nil, err
	}
	a.valid = cert
	return &ssh.Permissions{}, nil
}

// signed runs once the key has signed this connection. It checks anew, since time and trust move.
func (a *authenticator) signed(meta ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return a.registered(meta, key)
	}
	if err := a.check(meta, cert); err != nil {
		return nil, err
	}
	return &ssh.Permissions{ExtraData: map[any]any{holderKey{}: certified(cert)}}, nil
}

func (a *authenticator) check(meta ssh.ConnMetadata, cert *ssh.Certificate) error {
	err := sshca.CheckAccess(cert, a.b.feed.trustNow().access, a.b.cfg.Now(), a.source)
	if err == nil && a.other(cert) {
		err = errOtherCert
	}
	if err != nil {
		return a.refuse(meta, cert, err, false)
	}
	return nil
}

// other reports whether a key is not the one of the outer connection of ssh -J (R7).
func (a *authenticator) other(key ssh.PublicKey) bool {
	return a.outer != nil && !bytes.Equal(key.Marshal(), a.outer.key.Marshal())
}

// checkPlain says whether a plain key may sign. It looks at nothing that depends on which keys are registered,
// but whether there are any.
func (a *authenticator) checkPlain(key ssh.PublicKey) error {
	if !a.b.feed.anyKeys() || sshca.CheckKey(key) != nil || a.other(key) {
		return errPlainKey
	}
	return nil
}

// registered is for a plain key that has signed. What it opens is for the broker to say, by its own record of the
// fingerprint (R6).
func (a *authenticator) registered(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if err := a.checkPlain(key); err != nil {
		return nil, err
	}
	id := a.b.feed.keyID(ssh.FingerprintSHA256(key))
	if id == "" {
		return nil, a.refuse(meta, key, errUnregistered, true)
	}
	return &ssh.Permissions{ExtraData: map[any]any{holderKey{}: &holder{key: key, login: id}}}, nil
}

// refuse reports a refusal and returns it.
func (a *authenticator) refuse(meta ssh.ConnMetadata, key ssh.PublicKey, err error, signed bool) error {
	err = refusedError{err}
	detail := refusedKey(key, meta).because(err)
	detail.Signed = signed
	a.b.refusals.note(a.source, reasonOf(err), detail)
	return err
}

// refusedError marks what has been reported already.
type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }

// unreadable reports keys that x/crypto refused to parse, certificates signed by certificates
// among them: those never reach the other callbacks.
func (a *authenticator) unreadable(meta ssh.ConnMetadata, method string, err error) {
	a.tried = a.tried || err != nil && method != "none"
	var refused refusedError
	if method != "publickey" || err == nil || errors.Is(err, errPlainKey) || errors.As(err, &refused) {
		return
	}
	reason := reasonUnreadable
	if strings.Contains(err.Error(), "invalid for certificates") { // x/crypto's words
		reason = reasonNested
	}
	a.b.refusals.note(a.source, reason, refusedKey(nil, meta).because(err))
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
	detail := refusedKey(a.valid, nil)
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
