package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sega/broker/api"
	"sega/keychain/secret"
)

// broker is a login at a broker in memory, whose clock may differ from the laptop's.
type broker struct {
	ahead  time.Duration
	items  chan api.FeedItem // beside heartbeats
	cut    chan error        // ends the feed
	closed chan struct{}

	mu       sync.Mutex
	silent   bool // no heartbeats
	life     time.Duration
	standing string
	id       string
	subject  string
	minted   int
	asked    []string // access keys shown to Reuse
	acked    []api.Ack
	renewed  int
	mintErr  error
	reuseErr error
	feedErr  error
	renewErr error
	hold     chan struct{} // Credentials waits for it, if not nil
	notAfter time.Time
	cas      *cas
}

func newBroker() *broker {
	return &broker{items: make(chan api.FeedItem), cut: make(chan error), closed: make(chan struct{}, 8), life: time.Hour, standing: "s1", id: "ses_1", cas: newCAs(), notAfter: time.Now().Add(12 * time.Hour)}
}

func (b *broker) now() time.Time { return time.Now().Add(b.ahead) }

// with changes what the broker does from now on.
func (b *broker) with(f func(*broker)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

func (b *broker) count() (minted, asked int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.minted, len(b.asked)
}

func (b *broker) Credentials(_ context.Context, r api.CredentialsRequest) (api.Credentials, error) {
	b.mu.Lock()
	hold := b.hold
	b.mu.Unlock()
	if hold != nil {
		<-hold
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mintErr != nil {
		return api.Credentials{}, b.mintErr
	}
	b.minted++
	return api.Credentials{AccessKeyID: fmt.Sprintf("ASIA%d", b.minted), SecretAccessKey: secret.FromString(fmt.Sprintf("secret-%d", b.minted)), SessionToken: secret.FromString("token"),
		Expiration: b.now().Add(b.life), Role: r.Role, Notices: []string{"a notice"}}, nil
}

func (b *broker) Reuse(_ context.Context, r api.ReuseRequest) (api.Reuse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, r.AccessKeyID)
	return api.Reuse{SecondsLeft: 3000}, b.reuseErr
}

func (b *broker) SessionFeed(ctx context.Context, handle func(api.FeedItem) error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		b.mu.Lock()
		err, silent := b.feedErr, b.silent
		item := api.FeedItem{Type: api.FeedHeartbeat, LeaseMS: 30_000, Session: &api.FeedSession{Now: b.now(), Expires: b.now().Add(time.Hour), Standing: b.standing}}
		b.mu.Unlock()
		if err != nil {
			return err
		}
		if !silent {
			if err := handle(item); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case item := <-b.items:
			if err := handle(item); err != nil {
				return err
			}
		case err := <-b.cut:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *broker) SessionAck(_ context.Context, a api.Ack) error {
	b.with(func(b *broker) { b.acked = append(b.acked, a) })
	return nil
}

func (b *broker) Renew(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.renewErr == nil {
		b.renewed++
	}
	return b.renewErr
}

func (b *broker) Certificate(_ context.Context, r api.CertificateRequest) (api.Certificate, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cas.certify(r.PublicKey, b.now())
}

func (b *broker) FrontCAs() []string { return b.cas.frontLines() }

func (b *broker) Origin() string { return "https://broker.example" }
func (b *broker) LogSize() int64 { return 7 }
func (b *broker) Close()         { b.closed <- struct{}{} }

func (b *broker) Session() api.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return api.Status{LoginID: b.id, Person: api.Person{Subject: b.subject, Email: "alice@example.com"}, Expires: b.now().Add(time.Hour), NotAfter: b.notAfter}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// alive runs a test with a life in a bubble of time of its own.
func alive(t *testing.T, b *broker, test func(t *testing.T, l *life)) {
	t.Helper()
	aliveBy(t, b, nil, test)
}

// aliveBy is alive with a laptop's clock that may jump.
func aliveBy(t *testing.T, b *broker, wrap func(func() reading) func() reading, test func(t *testing.T, l *life)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b.items, b.cut, b.closed = make(chan api.FeedItem), make(chan error), make(chan struct{}, 8)
		b.notAfter = b.now().Add(12 * time.Hour)
		read := laptop()
		if wrap != nil {
			read = wrap(read)
		}
		l := begin(b, read, quiet())
		l.ready(t.Context())
		test(t, l)
		l.stop(api.Errorf(api.KindInternal, "the test is over"))
	})
}

// mustGet returns the access key of what a life hands out.
func mustGet(t *testing.T, l *life, role string) string {
	t.Helper()
	c, err := l.wallet.get(t.Context(), api.CredentialsRequest{Role: role})
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	if string(c.SecretAccessKey.Reveal()) != "secret-"+c.AccessKeyID[len("ASIA"):] {
		t.Fatalf("%s: the secret of other credentials", c.AccessKeyID)
	}
	return c.AccessKeyID
}
