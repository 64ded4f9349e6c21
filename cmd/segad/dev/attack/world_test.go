//go:build linux

package attack

import (
	"context"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/recording/bucket"
	"sega/audit/sqlite"
	"sega/audit/store/backend"
	"sega/broker"
	"sega/broker/awssts"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/cmd/segad/dev/provider"
	"sega/cmd/segad/dev/sts"
	"sega/idp"
	"sega/keychain/secret"
	"sega/sshca/sshtest"
)

const (
	clientID    = "sega-attack"
	node        = "attack-broker"
	bastionName = "bastion-1"
	otherName   = "bastion-2"
	brokerARN   = "arn:aws:sts::111111111111:assumed-role/sega-broker/attack"
	adminARN    = "arn:aws:iam::111111111111:role/dev-admin"
	auditARN    = "arn:aws:iam::111111111111:role/dev-audit" // trusts dev-admin alone
	patience    = time.Minute
)

// clock is the wall clock of everything, which tests move.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
	frozen time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen.IsZero() {
		return c.frozen
	}
	return time.Now().Add(c.offset)
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
	if !c.frozen.IsZero() {
		c.frozen = c.frozen.Add(d)
	}
}

func (c *clock) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = time.Now().Add(c.offset)
}

// world is a broker with everything around it.
type world struct {
	t        testing.TB
	clock    *clock
	provider *provider.Provider
	idp      *idp.Provider
	sts      *sts.Server
	console  *sts.Console
	consoles *awssts.Console
	minter   *slowMinter
	log      *faultyLog
	cas      caKeys
	config   broker.Config
	server   *broker.Server
	web      *httptest.Server
	dir      string

	sshds []sshd // of the hosts
}

// change adapts the broker's configuration before it starts.
type change func(*world, *broker.Config)

func newWorld(t testing.TB, changes ...change) *world {
	t.Helper()
	return newWorldOf(t, caKeys{Access: newSigner(t), Hop: newSigner(t), Front: newSigner(t), Host: newSigner(t)}, changes...)
}

// newWorldOf is newWorld with keys of the CAs that the caller has.
func newWorldOf(t testing.TB, keys caKeys, changes ...change) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{}, dir: t.TempDir(), cas: keys}
	w.startProvider()
	w.startSTS()
	w.web = httptest.NewUnstartedServer(nil)
	w.web.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that the end of a test cuts
	w.config = w.brokerConfig()
	for _, c := range changes {
		c(w, &w.config)
	}
	w.server = w.newBroker()
	w.web.Config.Handler = w.server
	w.web.StartTLS()
	t.Cleanup(func() { w.server.Drain(); w.web.Close() })
	return w
}

// newBroker starts a broker over the log, as after a restart.
func (w *world) newBroker() *broker.Server {
	w.t.Helper()
	s, err := broker.New(context.Background(), w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) brokerConfig() broker.Config {
	t := w.t
	t.Helper()
	verifier, err := idp.NewVerifier(w.idp, idp.VerifierConfig{ClientID: clientID, Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	key, err := audit.GenerateLogKey("attack.sega.invalid/audit")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(context.Background(), sqlite.Config{Path: filepath.Join(w.dir, "sega.db"), Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.log = &faultyLog{Log: db}
	if err := os.Mkdir(filepath.Join(w.dir, "recordings"), 0o700); err != nil {
		t.Fatal(err)
	}
	recordings, err := bucket.OpenDir(filepath.Join(w.dir, "recordings"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = recordings.Close() })
	rules := policy.NewEngine(func() (*policy.Set, error) { return policy.Load(os.DirFS("../policy")) })
	if err := rules.Err(); err != nil {
		t.Fatal(err)
	}
	limits := broker.DefaultLimits()
	limits.RefusalRate, limits.RefusalBurst = 1e4, 1e5 // the limits have tests of their own
	limits.AddressRate, limits.SubjectRate, limits.StrangerRate, limits.StrangerBurst = 1e5, 1e5, 1e5, 1e6
	times := broker.DefaultTimes()
	times.RevokeWait = 20 * time.Millisecond // most worlds have no bastion that could answer
	return broker.Config{Origin: "https://" + w.web.Listener.Addr().String(), Node: node, Version: "attack", Issuer: w.provider.Issuer(), ClientID: clientID,
		Scopes: []string{"openid", "profile", "email", "groups"}, RedirectPath: "/callback", DeviceGrant: true, Log: w.log, LogKey: key.VerifierKey(), Policy: rules,
		Verifier: verifier, Device: w.idp, Minter: w.minter, Consoles: w.consoles, CAs: w.cas.configured(),
		Roles:      []broker.Role{{Name: "dev-admin", ARN: adminARN, MaxDuration: time.Hour}, {Name: "dev-audit", ARN: auditARN, ExternalID: "ext-audit", MaxDuration: 4 * time.Hour}},
		Hosts:      []broker.Host{{Name: "web-1", ID: "web-1", Address: "127.0.0.1:9", Logins: []string{"root"}, Labels: map[string]string{"env": "dev"}}},
		Bastions:   []broker.Bastion{{Name: bastionName, Address: "127.0.0.1:1", Egress: []string{"127.0.0.1/32"}}, {Name: otherName, Address: "127.0.0.1:1", Egress: []string{"127.0.0.1/32"}}},
		Recordings: recordings, Times: times, Limits: limits, Now: w.clock.now, Logger: slog.New(slog.NewTextHandler(testLog{t}, nil))}
}

// testLog shows the broker's own log where a test fails.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(string(p))
	return len(p), nil
}

// people of the provider; all but mallory have a second factor.
var people = []provider.User{
	{Email: "alice@example.com", Name: "Alice", Subject: "00ualice", Password: "pw-alice", TOTPSecret: "JBSWY3DPEHPK3PXP", Groups: []string{"engineering"}},
	{Email: "bob@example.com", Name: "Bob", Subject: "00ubob", Password: "pw-bob", TOTPSecret: "JBSWY3DPEHPK3PXQ", Groups: []string{"engineering", "oncall"}},
	{Email: "sam@example.com", Name: "Sam", Subject: "00usam", Password: "pw-sam", TOTPSecret: "JBSWY3DPEHPK3PXR", Groups: []string{"security"}},
	{Email: "sue@example.com", Name: "Sue", Subject: "00usue", Password: "pw-sue", TOTPSecret: "JBSWY3DPEHPK3PXS", Groups: []string{"security"}},
	{Email: "carol@example.com", Name: "Carol", Subject: "00ucarol", Password: "pw-carol", TOTPSecret: "JBSWY3DPEHPK3PXT", Groups: []string{"reviewers"}},
	{Email: "mallory@example.com", Name: "Mallory", Subject: "00umallory", Password: "pw-mallory", Groups: []string{"engineering"}},
}

// providerKeys is a provider's state with keys in it: RSA keys take long to make.
var providerKeys = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	path := filepath.Join(dir, "state")
	if _, err := provider.New(provider.Config{Listener: ln, ClientID: clientID, StateFile: path}); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func (w *world) startProvider() {
	t := w.t
	t.Helper()
	keys, err := providerKeys()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, "provider")
	if err := os.WriteFile(path, keys, 0o600); err != nil {
		t.Fatal(err)
	}
	w.provider, err = provider.New(provider.Config{Listener: listen(t), ClientID: clientID, Users: people, StateFile: path, Now: w.clock.now, DeviceInterval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, w.provider.Run)
	if w.idp, err = idp.Discover(t.Context(), w.provider.Issuer(), nil); err != nil {
		t.Fatal(err)
	}
}

func (w *world) startSTS() {
	t := w.t
	t.Helper()
	var err error
	key := secret.FromString("the broker's own AWS secret")
	w.sts, err = sts.New(sts.Config{Listener: listen(t), Callers: []sts.Caller{{AccessKeyID: "ASIAATTACK0000000001", SecretAccessKey: key, ARN: brokerARN}},
		Roles: []sts.Role{{ARN: adminARN, MaxDuration: time.Hour, Trusted: []string{brokerARN}, AllowTag: true, AllowSourceIdentity: true},
			{ARN: auditARN, MaxDuration: 4 * time.Hour, Trusted: []string{adminARN}, AllowTag: true, AllowSourceIdentity: true, ExternalID: "ext-audit"}}})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, w.sts.Run)
	chained := true
	minter, err := awssts.New(t.Context(), awssts.Config{Region: "us-east-1", Endpoint: w.sts.URL(), Chained: &chained,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ASIAATTACK0000000001", SecretAccessKey: string(key.Reveal())}, nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	w.minter = &slowMinter{next: minter}
	if w.console, err = sts.NewConsole(w.sts, listen(t)); err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, w.console.Run)
	if w.consoles, err = awssts.NewConsole(awssts.ConsoleConfig{Endpoint: w.console.URL(), Issuer: "https://attack.sega.invalid"}); err != nil {
		t.Fatal(err)
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// runUntilCleanup runs a server until the test ends, and waits for it.
func runUntilCleanup(t testing.TB, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	return sshtest.Signer(t)
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// eventually waits for a condition that lies outside of the test's reach.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks at the condition
	}
}
