//go:build linux

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"sega/broker/api"
)

const (
	stepCA      = "step-ca"
	certClients = 32
	brokerCalls = 250  // of each client; the broker lets a person make 400 at once
	assumeCalls = 60   // of each client: the double slows down with the sessions that it remembers
	maxCertCPU  = 0.35 // ms of the server's processor for a certificate
	stepTimes   = 2    // the least rate, to step-ca's
)

// request makes the body of one call, before the clock runs.
type request func() ([]byte, error)

// certificates measures SSH certificates over HTTPS, each with its event durable before it is
// answered, DPoP and Cedar on, the CA's key from a file; and step-ca at the same work.
//
// The two are alike in what a client does for a certificate (a new key, a JSON body, one ES256 signature over a token
// for this request, HTTP/2 on a TLS 1.3 connection that stays) and in what a server cannot do without (that
// signature's check, the token once, one Ed25519 signature). step-ca waits for two synced writes of badger, the used token and the
// certificate, and writes a line of its log for each request, unsynced; it decides nothing by policy and reads no session. The broker waits for one group
// commit of SQLite: event, tree, checkpoint and the certificate's record. Clients and server share the processors: what the clients take
// themselves is in cpu.clients, and how far they and the bare exchange let any server go in floor.
func (b *bench) certificates() error {
	for _, clients := range []int{1, 8, certClients} {
		name := "broker.cert"
		if clients != certClients {
			name = fmt.Sprintf("broker.cert.clients-%d", clients)
		}
		l, err := b.load(clients, b.certCalls, api.RouteCertificate, certificateRequest)
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
	l, err := b.load(8, assumeCalls, api.RouteCredentials, func() ([]byte, error) { return body, nil })
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

// caller makes one call at a time.
type caller interface {
	post(ctx context.Context, route string, body []byte) ([]byte, error)
}

// load is callers who call a route in a row, all at once.
type load struct {
	people []caller
	route  string
	bodies [][][]byte // of each person's calls
}

// load runs a load of people who have just logged in.
func (b *bench) load(clients, calls int, route string, next request) (loaded, error) {
	e, err := b.environment()
	if err != nil {
		return loaded{}, err
	}
	people, err := b.newcomers(e, clients)
	if err != nil {
		return loaded{}, err
	}
	l := load{route: route}
	for _, p := range people {
		defer p.leave()
		l.people = append(l.people, p)
	}
	if err := l.prepare(calls, next); err != nil {
		return loaded{}, err
	}
	return l.measure(b.ctx, e.PIDs["broker"], e.up.Process.Pid)
}

// prepare makes the bodies of all calls.
func (l *load) prepare(calls int, next request) error {
	l.bodies = make([][][]byte, len(l.people))
	for i := range l.people {
		for range warmUps + calls {
			body, err := next()
			if err != nil {
				return err
			}
			l.bodies[i] = append(l.bodies[i], body)
		}
	}
	return nil
}

// measure lets the connections be made first: what counts are calls on them.
func (l load) measure(ctx context.Context, broker, doubles int) (out loaded, err error) {
	if _, err := l.turn(ctx, 0, warmUps); err != nil {
		return out, err
	}
	before, err := usagesOf(broker, doubles, os.Getpid())
	if err != nil {
		return out, err
	}
	from := time.Now()
	if out.calls, err = l.turn(ctx, warmUps, len(l.bodies[0])); err != nil {
		return out, err
	}
	out.wall = time.Since(from)
	after, err := usagesOf(broker, doubles, os.Getpid())
	if err == nil {
		out.server, out.doubles, out.clients = after[0].self-before[0].self, after[1].self-before[1].self, after[2].self-before[2].self
	}
	return out, err
}

// turn lets everybody make her calls of a range and returns what each took.
func (l load) turn(ctx context.Context, from, to int) ([]time.Duration, error) {
	g, ctx := errgroup.WithContext(ctx)
	each := make([][]time.Duration, len(l.people))
	for i, p := range l.people {
		g.Go(func() (err error) {
			each[i], err = inARow(ctx, p, l.route, l.bodies[i][from:to])
			return err
		})
	}
	err := g.Wait()
	return slices.Concat(each...), err
}

// inARow makes one caller's calls.
func inARow(ctx context.Context, c caller, route string, bodies [][]byte) ([]time.Duration, error) {
	out := make([]time.Duration, 0, len(bodies))
	for _, body := range bodies {
		from := time.Now()
		if _, err := c.post(ctx, route, body); err != nil {
			return out, fmt.Errorf("%s: %w", route, err)
		}
		out = append(out, time.Since(from))
	}
	return out, nil
}
