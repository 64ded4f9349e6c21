//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/broker/api"
	"sega/sshca"
)

// errNotNow ends a task that is worth a repeat.
var errNotNow = errors.New("not now")

// task makes one request, or a few that follow from each other, and writes what came into the ledger.
type task func(ctx context.Context, l *ledger) error

// crowd is who asks the broker for things.
type crowd struct {
	r        *rig
	people   []*member
	bastion  *member // asks for hops and reports sessions
	sessions *member // opens one machine session after another
	marks    *marks
	ids      []identity // of people[i]
}

// newCrowd logs two engineers in, and enrols the test as two machines.
func newCrowd(r *rig, l *ledger, m *marks) *crowd {
	r.t.Helper()
	c := &crowd{r: r, marks: m, bastion: r.machine(goBastion, m), sessions: r.machine(goSessions, m)}
	for _, email := range []string{"alice@example.com", "bob@example.com"} {
		p, id := r.login(email, m)
		l.got(nameSession("user.login", id))
		c.people = append(c.people, p)
		ident := mustCertify(r.t, p)
		l.got(certName("ssh.cert", ident))
		c.ids = append(c.ids, ident)
	}
	return c
}

// refresh gives each person a certificate that is good for some minutes more.
func (c *crowd) refresh(l *ledger) {
	c.r.t.Helper()
	for i, p := range c.people {
		c.ids[i] = mustCertify(c.r.t, p)
		l.got(certName("ssh.cert", c.ids[i]))
	}
}

// tasks is what they ask for: each worker has one.
func (c *crowd) tasks() []task {
	var out []task
	for i, p := range c.people {
		for range 12 {
			out = append(out, askCredentials(p))
		}
		for range 10 {
			out = append(out, askCert(p), c.askHop(c.ids[i]))
		}
	}
	return append(out, c.askSession) // 65 writers
}

func askCredentials(m *member) task {
	return func(ctx context.Context, l *ledger) error {
		v, err := m.Credentials(ctx, api.CredentialsRequest{Role: "dev-admin"})
		if err == nil {
			l.got(nameCredentials(v.AccessKeyID))
		}
		return err
	}
}

func askCert(m *member) task {
	return func(ctx context.Context, l *ledger) error {
		id, err := m.certify(ctx)
		if err == nil {
			l.got(certName("ssh.cert", id))
		}
		return err
	}
}

// askHop asks for a hop as a bastion does, and reports start and end of its session.
func (c *crowd) askHop(id identity) task {
	return func(ctx context.Context, l *ledger) error {
		hop, err := c.bastion.Hop(ctx, api.HopRequest{AccessSerial: id.cert.Serial, AccessKey: ssh.FingerprintSHA256(id.cert.Key), Host: hostName,
			Login: c.r.Host.Login, Source: "127.0.0.1", HopKey: sshca.MarshalLine(mustKey()), Route: "direct"})
		if err != nil {
			return err
		}
		cert, err := parseCert(hop.Certificate)
		if err != nil {
			return err
		}
		l.got(nameHop(hop.SessionID, sshca.Serial(cert.Serial).String(), sshca.Digest(cert)))
		for _, kind := range []string{"session.start", "session.end"} {
			err := c.bastion.Report(ctx, []api.Report{{ID: audit.NewID(), Time: time.Now().UTC(), Kind: kind, Outcome: string(audit.Success),
				SessionID: hop.SessionID, Source: "127.0.0.1", Details: json.RawMessage(`{}`)}})
			if err != nil {
				return err
			}
			l.got(nameSession(kind, hop.SessionID))
		}
		return nil
	}
}

func (c *crowd) askSession(ctx context.Context, l *ledger) error {
	s, err := c.sessions.MachineSession(ctx)
	if err == nil {
		l.got(nameSession("node.session", s.SessionID))
		c.sessions.setToken(s.Token)
	}
	return err
}

// storm is one run of workers against a broker that will be gone before long.
type storm struct {
	inflight atomic.Int64
	calls    atomic.Int64
	lost     atomic.Int64 // requests that were under way and got no answer
	refused  atomic.Int64 // requests that a broker without its database refused
	wg       sync.WaitGroup

	withoutDatabase bool // such refusals are expected

	mu    sync.Mutex
	wrong []error // refusals that a dying broker does not explain
}

// run starts a worker for each task; each repeats it until the broker is gone.
func (s *storm) run(ctx context.Context, l *ledger, tasks []task) {
	for _, do := range tasks {
		s.wg.Go(func() {
			for ctx.Err() == nil && s.once(ctx, l, do) {
			}
		})
	}
}

// once reports whether the broker still answers.
func (s *storm) once(ctx context.Context, l *ledger, do task) bool {
	s.calls.Add(1)
	s.inflight.Add(1)
	err := do(ctx, l)
	s.inflight.Add(-1)
	switch {
	case err == nil:
		return true
	case api.IsKind(err, api.KindUnreachable):
		s.lost.Add(1)
		return false
	case s.withoutDatabase && api.IsKind(err, api.KindUnavailable):
		s.refused.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond): // nobody asks in a tight loop
		}
		return true
	case api.IsKind(err, api.KindRateLimited), errors.Is(err, errNotNow):
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond): // what the limit asks for
		}
		return true
	case errors.Is(err, context.Canceled):
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Errorf("%w", err))
	return false
}

// await waits until n requests are under way at once.
func (s *storm) await(ctx context.Context, n int64) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.inflight.Load() < n {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}
