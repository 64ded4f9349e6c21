package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/sqlite"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/awssts"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/idp"
	"sega/keychain/secret"
	"sega/sshca/sshtest"
)

const (
	origin = "https://sega.test:8443"
	issuer = "https://idp.test"
)

const policies = `
@id("dev-admin") @max_duration("4h")
permit (principal in Group::"engineering", action == Action::"assume", resource == Role::"dev-admin");
@id("reasoned") @require_reason("yes")
permit (principal in Group::"engineering", action == Action::"assume", resource == Role::"reasoned");
@id("ticketed") @require_ticket("yes")
permit (principal in Group::"engineering", action == Action::"assume", resource == Role::"ticketed");
@id("fresh") @max_auth_age("5m")
permit (principal in Group::"engineering", action == Action::"assume", resource == Role::"fresh");
@id("never") @reason("frozen for the audit")
forbid (principal, action == Action::"assume", resource == Role::"frozen");
@id("certificates")
permit (principal in Group::"engineering", action == Action::"certificate", resource);
`

// clock is the wall clock of a test.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// brittleLog is the real log, and fails where the test says so.
type brittleLog struct {
	store.Log
	mu     sync.Mutex
	before func(events []audit.Event) error
}

func (l *brittleLog) Append(ctx context.Context, events []audit.Event, apply func(context.Context, store.Tx) error) (int64, error) {
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before != nil {
		if err := before(events); err != nil {
			return 0, err
		}
	}
	return l.Log.Append(ctx, events, apply)
}

func (l *brittleLog) on(before func([]audit.Event) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = before
}

// minter stands in for AWS: do is what one call gives.
type minter struct {
	mu sync.Mutex
	do func(awssts.Request) (awssts.Result, error)
	n  int

	from func(before awssts.Result, r awssts.Request) (awssts.Result, error)
}

func (m *minter) Assume(_ context.Context, r awssts.Request) (awssts.Result, error) {
	m.mu.Lock()
	m.n++
	do := m.do
	m.mu.Unlock()
	return do(r)
}

// AssumeFrom is the next hop of a chain: the test sees by which session it was asked for.
func (m *minter) AssumeFrom(_ context.Context, before awssts.Result, r awssts.Request) (awssts.Result, error) {
	m.mu.Lock()
	m.n++
	do := m.from
	m.mu.Unlock()
	return do(before, r)
}

func (m *minter) calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n
}

// verifier stands in for the identity provider; login tests proper run against a real one.
type verifier struct{ identity idp.Identity }

func (v verifier) Verify(context.Context, secret.Secret, string) (idp.Identity, error) {
	return v.identity, nil
}

func (v verifier) VerifyRefreshed(context.Context, secret.Secret, idp.Identity) (idp.Identity, error) {
	return v.identity, nil
}

func (v verifier) VerifyDevice(context.Context, secret.Secret) (idp.Identity, error) {
	return v.identity, nil
}

func (v verifier) UserInfoGroups(context.Context, secret.Secret, string) ([]string, error) {
	return nil, nil
}

type noRecordings struct{}

func (noRecordings) Reader(context.Context, string, int64) (io.ReadCloser, error) {
	return nil, fs.ErrNotExist
}

// world is a broker on a real log, with what stands in for everything outside.
type world struct {
	t      testing.TB
	clock  *clock
	db     store.Log
	log    *brittleLog
	logKey *audit.LogKey
	minter *minter
	config Config
	logs   *bytes.Buffer
	s      *Server

	mu     sync.Mutex
	policy fstest.MapFS
}

func signer(t testing.TB) ssh.Signer {
	t.Helper()
	return sshtest.Signer(t)
}

func newCAs(t testing.TB) CAs {
	one := func() []ssh.Signer { return []ssh.Signer{signer(t)} }
	return CAs{Access: one(), Hop: one(), Front: one(), Host: one()}
}

// newWorld starts a broker on SQLite; change alters its configuration.
func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	return newWorldOn(t, onSQLite, change...)
}

// opener opens a fresh log of a backend.
type opener func(t testing.TB, key *audit.LogKey) (store.Log, error)

func onSQLite(t testing.TB, key *audit.LogKey) (store.Log, error) {
	return sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "sega.db"), Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}})
}

// newWorldOn is newWorld on any backend.
func newWorldOn(t testing.TB, open opener, change ...func(*Config)) *world {
	t.Helper()
	key, err := audit.GenerateLogKey("sega.test/log")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, clock: &clock{t: time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)}, logKey: key, minter: &minter{do: minted}, logs: &bytes.Buffer{},
		policy: fstest.MapFS{"p.cedar": {Data: []byte(policies)}}}
	if w.db, err = open(t, key); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	w.log = &brittleLog{Log: w.db}
	w.config = w.configuration()
	for _, f := range change {
		f(&w.config)
	}
	w.knowCAs()
	w.restart()
	return w
}

// knowCAs makes the database one that knows the CAs already: the first start of all would be an event before every test's.
func (w *world) knowCAs() {
	w.t.Helper()
	changes, err := w.config.CAs.changes(nil)
	if err != nil {
		return // for New to say
	}
	w.write(func(ctx context.Context, tx store.Tx) error { return applyCAs(ctx, tx, changes, w.clock.now()) })
}

func (w *world) configuration() Config {
	load := func() (*policy.Set, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return policy.Load(w.policy)
	}
	roles := []Role{}
	for _, name := range []string{"dev-admin", "reasoned", "ticketed", "fresh", "frozen", "other"} {
		roles = append(roles, Role{Name: name, ARN: "arn:aws:iam::111122223333:role/" + name, MaxDuration: time.Hour})
	}
	return Config{Origin: origin, Node: "node-1", Version: "test", Issuer: issuer, ClientID: "sega", Log: w.log, LogKey: w.logKey.VerifierKey(),
		Policy: policy.NewEngine(load), Verifier: verifier{}, Minter: w.minter, Recordings: noRecordings{}, Now: w.clock.now,
		CAs:      newCAs(w.t),
		Hosts:    []Host{{Name: "web-1", ID: "host-1", Address: "192.0.2.1:22", Logins: []string{"deploy"}}},
		Bastions: []Bastion{{Name: "bastion-1", Address: "192.0.2.9:22", Egress: []string{"192.0.2.9/32"}}},
		Roles:    roles, Logger: slog.New(slog.NewJSONHandler(w.logs, nil))}
}

// restart makes a new server over the same log.
func (w *world) restart() {
	w.t.Helper()
	s, err := New(w.t.Context(), w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s
}

func minted(r awssts.Request) (awssts.Result, error) {
	return awssts.Result{AccessKeyID: api.NewID("ASIA"), SecretAccessKey: secret.FromString("canary-secret"), SessionToken: secret.FromString("canary-token"),
		Expiration: time.Date(2030, 1, 2, 13, 0, 0, 0, time.UTC), AssumedRoleARN: r.RoleARN + "/alice", SourceIdentity: r.Email, SessionName: r.Email}, nil
}

// caller has a session and the key that it is bound to.
type caller struct {
	w       *world
	key     dpop.Key
	token   secret.Secret
	session state.Session
}

// login gives alice a session in the records; change alters it.
func (w *world) login(change ...func(*state.Session)) caller {
	w.t.Helper()
	key, err := dpop.GenerateKey()
	if err != nil {
		w.t.Fatal(err)
	}
	p := caller{w: w, key: key, token: api.NewToken(api.PrefixSession)}
	now := w.clock.now()
	p.session = state.Session{ID: api.NewID(api.IDLogin), Kind: state.KindLogin, TokenHash: hashToken(p.token), Thumbprint: key.Thumbprint(), Issuer: issuer,
		Subject: "alice", Email: "alice@example.com", Groups: []string{"engineering"}, Method: api.MethodBrowser, MFA: true, AuthTime: now.Add(-time.Minute),
		Created: now, Expires: now.Add(time.Hour), NotAfter: now.Add(12 * time.Hour), Epoch: 1, Rev: 1}
	for _, f := range change {
		f(&p.session)
	}
	w.write(func(ctx context.Context, tx store.Tx) error {
		if p.session.Kind == state.KindLogin {
			if _, err := state.SeeSubject(ctx, tx, issuer, p.session.Subject, p.session.Email, "", now); err != nil {
				return err
			}
		}
		if p.session.Kind == state.KindMachine {
			kind, _, _ := strings.Cut(p.session.Email, "-")
			m := state.Machine{ID: p.session.Subject, Name: p.session.Email, Kind: kind, Thumbprint: key.Thumbprint(), Created: now}
			if err := state.AddMachine(ctx, tx, m); err != nil {
				return err
			}
		}
		return state.AddSession(ctx, tx, p.session)
	})
	return p
}

func (w *world) write(apply func(context.Context, store.Tx) error) {
	w.t.Helper()
	if _, err := w.db.Append(context.Background(), nil, apply); err != nil {
		w.t.Fatal(err)
	}
}

// request makes a request with a good proof.
func (p caller) request(method, path string, body any) *http.Request {
	p.w.t.Helper()
	raw, ok := body.(string)
	if !ok && body != nil {
		if r, reveals := body.(api.Revealer); reveals {
			body = r.Wire()
		}
		b, err := json.Marshal(body)
		if err != nil {
			p.w.t.Fatal(err)
		}
		raw = string(b)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(raw))
	route, _, _ := strings.Cut(path, "?")
	proof, err := p.key.Proof(method, origin+route, p.token, p.w.s.nonces.Issue())
	if err != nil {
		p.w.t.Fatal(err)
	}
	r.Header.Set(api.HeaderProof, proof)
	if !p.token.Empty() {
		r.Header.Set("Authorization", "DPoP "+string(p.token.Reveal()))
	}
	return r
}

func (p caller) do(method, path string, body any) *httptest.ResponseRecorder {
	p.w.t.Helper()
	return p.w.serve(p.request(method, path, body))
}

func (w *world) serve(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	w.s.ServeHTTP(rec, r)
	return rec
}

func (p caller) assume(role string) *httptest.ResponseRecorder {
	p.w.t.Helper()
	return p.do("POST", api.RouteCredentials, api.CredentialsRequest{Role: role})
}

// problem reads an answer that must be one.
func problemOf(t testing.TB, rec *httptest.ResponseRecorder) api.Problem {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
		t.Fatalf("status %d, %v: %s", rec.Code, err, rec.Body)
	}
	return p
}

// events are those of the log, intents too, with their details.
func (w *world) events() (all []audit.Event) {
	w.t.Helper()
	_, tree := w.db.Head()
	for row, err := range w.db.Rows(context.Background(), 0, tree.N) {
		if err != nil {
			w.t.Fatal(err)
		}
		e, err := audit.Parse(row.Body)
		if err != nil {
			w.t.Fatal(err)
		}
		e.Details = row.Details
		all = append(all, e)
	}
	return all
}

// trail is the log as "kind outcome".
func (w *world) trail() []string {
	w.t.Helper()
	out := []string{}
	for _, e := range w.events() {
		out = append(out, e.Kind+" "+string(e.Outcome))
	}
	return out
}

func (w *world) openIntents() int {
	w.t.Helper()
	open, err := w.s.openIntents(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return len(open)
}

func (w *world) grants() (n int) {
	w.t.Helper()
	err := w.db.Read(context.Background(), func(ctx context.Context, tx store.Querier) error {
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM grants`).Scan(&n)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

var errDisk = errors.Join(store.ErrUnavailable, errors.New("database or disk is full"))
