package bastion

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

const clientVersion = "SSH-2.0-sega"

var (
	errHostKey = errors.New("the host's key is not the one it must have")
	errHopAuth = errors.New("the host refused the one-hop certificate")
)

// hopKey is the key of one connection to one host. It lives as long as the dial.
type hopKey struct{ signer ssh.Signer }

func newHopKey() (hopKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return hopKey{}, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	return hopKey{signer}, err
}

func (k hopKey) line() string { return sshca.MarshalLine(k.signer.PublicKey()) }

// certified joins the key with the certificate that the broker made for it.
func (k hopKey) certified(line string) (ssh.Signer, *ssh.Certificate, error) {
	cert, err := sshca.ParseCertificate(line)
	if err != nil {
		return nil, nil, fmt.Errorf("hop certificate: %w", err)
	}
	signer, err := ssh.NewCertSigner(cert, k.signer)
	if err != nil {
		return nil, nil, fmt.Errorf("hop certificate: %w", err)
	}
	return signer, cert, nil
}

// target is the connection to the host.
type target struct {
	conn  ssh.Conn
	raw   *bufferedConn
	chans <-chan ssh.NewChannel
	reqs  <-chan *ssh.Request
	wg    sync.WaitGroup
}

// dialTarget connects to the address that the broker gave, verifies the host and authenticates.
// What it returns the caller must serve and close. showed hears of each certificate that the host shows, with every key
// exchange, and says whether it stands.
func (b *Bastion) dialTarget(ctx context.Context, hop api.Hop, login string, signer ssh.Signer, showed func(serial uint64) bool) (*target, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.DialTimeout)
	defer cancel()
	verify, algos, err := b.hostVerifier(hop, showed)
	if err != nil {
		return nil, err
	}
	nc, err := b.cfg.Dial(ctx, "tcp", hop.Address)
	if err != nil {
		return nil, dialError(ctx, err)
	}
	raw := newBufferedConn(nc, &b.buffers)
	stop := context.AfterFunc(ctx, raw.Abort)
	config := algorithms()
	config.RekeyThreshold = b.cfg.Rekey
	conn, chans, reqs, err := ssh.NewClientConn(raw, hop.Address, &ssh.ClientConfig{
		Config: config, User: login, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: verify, HostKeyAlgorithms: algos, ClientVersion: clientVersion,
	})
	if err != nil {
		stop()
		raw.Abort()
		return nil, dialError(ctx, err)
	}
	if !stop() { // the deadline has already closed it
		raw.Abort()
		discard(conn, chans, reqs)
		return nil, context.Cause(ctx)
	}
	return &target{conn: conn, raw: raw, chans: chans, reqs: reqs}, nil
}

func dialError(ctx context.Context, err error) error {
	var end endReason
	switch {
	case errors.As(context.Cause(ctx), &end): // cut while dialing
		return end
	case ctx.Err() != nil:
		return fmt.Errorf("the host does not answer in time: %w", context.Cause(ctx))
	case errors.Is(err, errHostKey):
		if plain := errors.Unwrap(err); errors.Is(plain, errHostKey) { // without the library's "handshake failed"
			return plain
		}
		return err
	}
	var negotiation *ssh.AlgorithmNegotiationError
	if errors.As(err, &negotiation) {
		return nothingInCommon(negotiation)
	}
	var network net.Error
	if errors.As(err, &network) {
		return fmt.Errorf("the connection to the host broke: %w", err)
	}
	return fmt.Errorf("%w: %w", errHopAuth, err)
}

// nothingInCommon leaves out what this bastion takes: it is long, and what the host has is what somebody has to mend.
func nothingInCommon(err *ssh.AlgorithmNegotiationError) error {
	if err.What == "host key" {
		return fmt.Errorf("%w: it shows no certificate, and no pinned key, but has %q", errHostKey, err.RequestedAlgorithms)
	}
	return hint(fmt.Errorf("the host's sshd offers no %s that this bastion takes: %q", err.What, err.RequestedAlgorithms), "ask its owner to bring its sshd up to date")
}

// hostVerifier accepts a certificate of the host CA that names the host's ID, or one of the plain
// keys that the inventory pins, and nothing else. A certificate that was revoked is as good as none. With each
// key exchange the CAs count that are in force by then: one that was retired or withdrawn vouches for nothing more.
func (b *Bastion) hostVerifier(hop api.Hop, showed func(serial uint64) bool) (ssh.HostKeyCallback, []string, error) {
	pinned, err := sshca.ParseBundle(hop.HostKeys)
	if err != nil {
		return nil, nil, fmt.Errorf("pinned host key: %w", err)
	}
	now := b.cfg.Now
	verify := func(_ string, _ net.Addr, key ssh.PublicKey) error {
		if cert, ok := key.(*ssh.Certificate); ok {
			if err := sshca.CheckHost(cert, b.feed.trustNow().host, hop.HostID, now()); err != nil {
				return fmt.Errorf("%w: %w", errHostKey, err)
			}
			if slices.Contains(hop.Revoked, sshca.Serial(cert.Serial).String()) || !showed(cert.Serial) {
				return fmt.Errorf("%w: its certificate %d was revoked", errHostKey, cert.Serial)
			}
			return nil
		}
		for _, p := range pinned {
			if bytes.Equal(p.Marshal(), key.Marshal()) {
				return nil
			}
		}
		return fmt.Errorf("%w: %s", errHostKey, ssh.FingerprintSHA256(key))
	}
	return verify, hostKeyAlgorithms(pinned), nil
}

// hostKeyAlgorithms prefers certificates and offers plain keys only where some are pinned, of their types.
func hostKeyAlgorithms(pinned sshca.Bundle) []string {
	algos := []string{ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
		ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01}
	for _, p := range pinned {
		if p.Type() == ssh.KeyAlgoRSA {
			algos = append(algos, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			continue
		}
		algos = append(algos, p.Type())
	}
	return algos
}

// serve hands over what the host opens towards the person, until the connection ends.
func (t *target) serve(opened func(ssh.NewChannel)) {
	t.wg.Go(func() {
		for c := range t.chans {
			opened(c)
		}
	})
	t.wg.Go(func() {
		for r := range t.reqs {
			_ = r.Reply(false, nil) // hostkeys-00@openssh.com, keepalive@openssh.com
		}
	})
}

// sever lets nothing more reach the host, nor come from it, and leaves its connection to abort.
func (t *target) sever() { t.raw.Sever() }

// abort closes at once; when it returns, nothing reaches the host any more.
func (t *target) abort() { t.raw.Abort() }

// close lets what was forwarded arrive, closes what was not severed, and waits for what serve has started.
func (t *target) close() {
	_ = t.raw.Close()
	t.wg.Wait()
}

// hopTimes bounds what a hop answer may say about the session's end.
func hopTimes(hop api.Hop, now time.Time) (left time.Duration, err error) {
	left = hop.NotAfter.Sub(now)
	if left <= 0 {
		return 0, fmt.Errorf("the broker gave a session that has already ended: check the clocks of broker and bastion")
	}
	return left, nil
}
