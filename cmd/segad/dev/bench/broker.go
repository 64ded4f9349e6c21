//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"sega/broker/api"
	"sega/sshca"
)

const (
	stepCA      = "step-ca"
	certClients = 32
	brokerCalls = 250  // of each client; the broker lets a person make 400 at once
	assumeCalls = 60   // of each client: the double slows down with the sessions that it remembers
	maxCertCPU  = 0.35 // ms of the server's processor for a certificate
	stepTimes   = 1.2  // the least rate, to step-ca's (docs/decisions/certificates-against-step-ca.md)
)

// request makes the body of one call, before the clock runs.
type request func() ([]byte, error)

// certificates measures SSH certificates over HTTPS, each with its event durable before it is
// answered, DPoP and Cedar on, the CA's key from a file; and step-ca at the same work.
//
// The two are alike in what comes from a client (a new key, a JSON body, an ES256 signature of its own over a token for
// each request, HTTP/2 on a TLS 1.3 connection that stays) and in what a server cannot do without (that
// signature's check, the token once, one Ed25519 signature). What clients do by themselves they do before the clock starts and after it has stopped, for
// both: keys, signatures and frames are made before, and every answer is held to be the certificate asked for after. step-ca waits for two synced writes of badger, the used token and the
// certificate, and writes a line of its log for each request, unsynced; it decides nothing by policy and reads no session. The broker waits for one group
// commit of SQLite: event, tree, checkpoint and the certificate's record. Clients and server share the processors: what the clients take
// themselves is in cpu.clients, and how far they and the bare exchange let any server go in floor.
func (b *bench) certificates() error {
	for _, clients := range []int{1, 8, certClients} {
		name := "broker.cert"
		if clients != certClients {
			name = fmt.Sprintf("broker.cert.clients-%d", clients)
		}
		l, err := b.load(clients, b.certCalls, api.RouteCertificate, certificateRequest, certified)
		if err != nil {
			return err
		}
		peer, err := b.stepLoad(clients, b.certCalls)
		if err != nil {
			// The broker's own figures stand without it.
			b.add(l.rate(name).unmeasured(stepCA), l.p50(name).unmeasured(stepCA), l.p99(name).unmeasured(stepCA), l.cpu(name).unmeasured(stepCA).atMost(maxCertCPU), l.own(name))
			return fmt.Errorf("%s: %w", stepCA, err)
		}
		rate, cpu := l.rate(name).against(stepCA, peer.rate("").Value), l.cpu(name).against(stepCA, peer.cpu("").Value)
		if clients == certClients {
			rate, cpu = rate.atLeast(stepTimes*peer.rate("").Value), cpu.atMost(maxCertCPU)
		}
		b.add(rate, l.p50(name).against(stepCA, peer.p50("").Value), l.p99(name).against(stepCA, peer.p99("").Value), cpu, l.own(name).against(stepCA, peer.own("").Value))
	}
	bare, err := b.floorLoad(certClients, b.certCalls)
	if err == nil {
		b.add(bare.rate("broker.cert.floor"), bare.cpu("broker.cert.floor"), bare.own("broker.cert.floor"))
	}
	return err
}

// assume measures AssumeRole with its two events, at the STS double.
func (b *bench) assume() error {
	body, err := json.Marshal(api.CredentialsRequest{Role: role})
	if err != nil {
		return err
	}
	l, err := b.load(8, assumeCalls, api.RouteCredentials, func() ([]byte, error) { return body, nil }, handedOut)
	if err != nil {
		return err
	}
	const name = "broker.assume.clients-8"
	b.add(l.rate(name), l.p50(name), l.p99(name), l.cpu(name),
		// What the double takes of the same processors bounds the rate.
		result(name+".cpu.double", millis(l.doubles)/float64(len(l.calls)), "ms"))
	return nil
}

// certificateRequest asks for a key that is new, as each of sega's connections has.
func certificateRequest() ([]byte, error) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	return json.Marshal(api.CertificateRequest{PublicKey: string(ssh.MarshalAuthorizedKey(key))})
}

// loaded is what a load has shown.
type loaded struct {
	calls   []time.Duration
	wall    time.Duration
	server  time.Duration // processor time of the broker
	doubles time.Duration // and of what stands in for IdP and STS
	clients time.Duration // and of this process, which makes the calls
}

func (l loaded) rate(name string) Result {
	return result(name, float64(len(l.calls))/l.wall.Seconds(), "1/s")
}
func (l loaded) p50(name string) Result { return result(name+".p50", millis(median(l.calls)), "ms") }
func (l loaded) p99(name string) Result {
	return result(name+".p99", millis(quantile(l.calls, 0.99)), "ms")
}
func (l loaded) cpu(name string) Result {
	return result(name+".cpu", millis(l.server)/float64(len(l.calls)), "ms")
}

// own is what making a call takes of the processors that the server shares.
func (l loaded) own(name string) Result {
	return result(name+".cpu.clients", millis(l.clients)/float64(len(l.calls)), "ms")
}

// caller is a client of a server.
type caller interface {
	connect(ctx context.Context) (*wire, error)
	message(ctx context.Context, route string, body []byte) (message, error) // for one call, not sent yet
}

// verdict says whether an answer is what was asked for.
type verdict func(asked, answered []byte) error

// load is callers who call a route in a row, all at once.
type load struct {
	origin, route string
	people        []caller
	good          verdict
	bodies        [][][]byte // of each person's calls
	wires         []*wire
}

// load runs a load of people who have just logged in.
func (b *bench) load(clients, calls int, route string, next request, good verdict) (loaded, error) {
	e, err := b.environment()
	if err != nil {
		return loaded{}, err
	}
	people, err := b.newcomers(e, clients)
	if err != nil {
		return loaded{}, err
	}
	l := load{origin: e.Broker, route: route, good: good}
	for _, p := range people {
		defer p.leave()
		l.people = append(l.people, p)
	}
	return l.run(b.ctx, calls, next, e.PIDs["broker"], e.up.Process.Pid)
}

// run prepares the calls, makes them and looks at the answers.
func (l *load) run(ctx context.Context, calls int, next request, server, doubles int) (loaded, error) {
	defer l.hangUp()
	if err := l.prepare(ctx, calls, next); err != nil {
		return loaded{}, err
	}
	defer context.AfterFunc(ctx, l.hangUp)()
	out, err := l.measure(server, doubles)
	if err != nil {
		return out, fmt.Errorf("%s: %w", l.route, err)
	}
	return out, l.check()
}

// prepare connects everybody and writes down all calls.
func (l *load) prepare(ctx context.Context, calls int, next request) error {
	for _, p := range l.people {
		var bodies [][]byte
		var messages []message
		for range warmUps + calls {
			body, err := next()
			if err != nil {
				return err
			}
			m, err := p.message(ctx, l.route, body)
			if err != nil {
				return err
			}
			bodies, messages = append(bodies, body), append(messages, m)
		}
		w, err := p.connect(ctx)
		if err != nil {
			return err
		}
		l.bodies, l.wires = append(l.bodies, bodies), append(l.wires, w)
		if err := w.write(l.origin, l.route, messages); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) hangUp() {
	for _, w := range l.wires {
		_ = w.conn.Close()
	}
}

// measure lets the first calls of each connection pass: what counts are those after them.
func (l *load) measure(server, doubles int) (out loaded, err error) {
	if _, err := l.turn(warmUps); err != nil {
		return out, err
	}
	before, err := usagesOf(server, doubles, os.Getpid())
	if err != nil {
		return out, err
	}
	from := time.Now()
	if out.calls, err = l.turn(len(l.bodies[0]) - warmUps); err != nil {
		return out, err
	}
	out.wall = time.Since(from)
	after, err := usagesOf(server, doubles, os.Getpid())
	if err == nil {
		out.server, out.doubles, out.clients = after[0].self-before[0].self, after[1].self-before[1].self, after[2].self-before[2].self
	}
	return out, err
}

// turn lets everybody make her next calls and returns what each took.
func (l *load) turn(calls int) ([]time.Duration, error) {
	var g errgroup.Group
	each := make([][]time.Duration, len(l.wires))
	for i, w := range l.wires {
		g.Go(func() (err error) {
			each[i], err = inARow(w, calls)
			return err
		})
	}
	err := g.Wait()
	return slices.Concat(each...), err
}

// inARow makes one caller's calls.
func inARow(w *wire, calls int) ([]time.Duration, error) {
	out := make([]time.Duration, 0, calls)
	for range calls {
		from := time.Now()
		if err := w.call(); err != nil {
			return out, err
		}
		out = append(out, time.Since(from))
	}
	return out, nil
}

// check looks at every answer.
func (l *load) check() error {
	for i, w := range l.wires {
		answers, err := w.bodies()
		if err != nil {
			return fmt.Errorf("%s: %w", l.route, err)
		}
		for j, answered := range answers {
			if err := l.good(l.bodies[i][j], answered); err != nil {
				return fmt.Errorf("%s: %w", l.route, err)
			}
		}
	}
	return nil
}

// certified holds that the broker has answered with a certificate of the key that was asked about.
func certified(asked, answered []byte) error {
	var r api.CertificateRequest
	var a api.Certificate
	if err := errors.Join(json.Unmarshal(asked, &r), json.Unmarshal(answered, &a)); err != nil {
		return err
	}
	key, err := sshca.ParseKey(strings.TrimSpace(r.PublicKey))
	if err != nil {
		return err
	}
	cert, err := sshca.ParseCertificate(a.Certificate)
	if err != nil {
		return err
	}
	return certifies(cert, key)
}

// certifies holds that a certificate is of a key, and signed by the key that it names.
func certifies(cert *ssh.Certificate, key ssh.PublicKey) error {
	if !bytes.Equal(cert.Key.Marshal(), key.Marshal()) {
		return errors.New("the certificate is of another key")
	}
	return new(ssh.CertChecker).CheckCert(cert.ValidPrincipals[0], cert)
}

// handedOut holds that an answer has credentials of AWS in it.
func handedOut(_, answered []byte) error {
	var a struct {
		AccessKeyID string `json:"access_key_id"`
	}
	if err := json.Unmarshal(answered, &a); err != nil || a.AccessKeyID == "" {
		return fmt.Errorf("the answer holds no access key (%v)", err)
	}
	return nil
}
