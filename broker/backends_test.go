package broker

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/postgres"
	"sega/audit/postgres/pgtest"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/idp"
	"sega/keychain/secret"
	"sega/sshca"
)

// pgServer is one for all tests; each log has a database of its own.
var pgServer = sync.OnceValues(func() (*pgtest.Server, error) { return pgtest.Run("") })

func TestMain(m *testing.M) {
	code := m.Run()
	if s, err := pgServer(); err == nil {
		if err := errors.Join(s.Kill(), s.Close()); err != nil { // nothing in it is wanted any more
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// newDatabase returns the URL of an empty schema.
func newDatabase(t testing.TB) string {
	t.Helper()
	s, err := pgServer()
	if errors.Is(err, pgtest.ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.URL("postgres", "search_path=s_"+strings.ToLower(rand.Text()))
}

// onPostgres opens the log of a database, as often as it is asked.
func onPostgres(url string) opener {
	return func(t testing.TB, key *audit.LogKey) (store.Log, error) {
		return postgres.Open(t.Context(), postgres.Config{URL: url, Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}})
	}
}

// openPolicy lets everybody do everything: these tests are about the database.
const openPolicy = `@id("all") permit (principal, action, resource);`

func openWorld(t testing.TB, open opener) *world {
	t.Helper()
	w := newWorldOn(t, open, func(c *Config) {
		c.Peers = true
		set, err := policy.Load(fstest.MapFS{"p.cedar": {Data: []byte(openPolicy)}})
		c.Policy = policy.NewEngine(func() (*policy.Set, error) { return set, err })
		c.Verifier = verifier{idp.Identity{Issuer: issuer, Subject: "alice", Email: "alice@example.com", EmailVerified: true, Groups: []string{"engineering"}, GroupsKnown: true,
			MFA: true, AuthTime: start, Expires: start.Add(time.Hour), IssuedAt: start, Digest: "d"}}
	})
	return w
}

func sshKey(t testing.TB) ssh.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// at is the same person at another broker.
func (p caller) at(w *world) caller {
	p.w = w
	return p
}

func (p caller) want(status int, method, path string, body, reply any) {
	p.w.t.Helper()
	rec := p.do(method, path, body)
	if rec.Code != status {
		p.w.t.Fatalf("%s %s: %d %s\n%s", method, path, rec.Code, rec.Body, p.w.logs)
	}
	if reply != nil {
		if err := json.Unmarshal(rec.Body.Bytes(), reply); err != nil {
			p.w.t.Fatal(err)
		}
	}
}

// certificate returns a fresh access certificate.
func (p caller) certificate() *ssh.Certificate {
	p.w.t.Helper()
	var got api.Certificate
	p.want(200, "POST", api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(sshKey(p.w.t))}, &got)
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(got.Certificate))
	if err != nil {
		p.w.t.Fatal(err)
	}
	return key.(*ssh.Certificate)
}

// hop asks, as a bastion, for the way of a certificate's holder to web-1.
func (p caller) hop(cert *ssh.Certificate, status int) (h api.Hop) {
	p.w.t.Helper()
	p.want(status, "POST", api.RouteHop, api.HopRequest{AccessSerial: cert.Serial, AccessKey: ssh.FingerprintSHA256(cert.Key), Host: "web-1", Login: "deploy",
		Source: "192.0.2.50", HopKey: sshca.MarshalLine(sshKey(p.w.t)), Route: "direct"}, &h)
	return h
}

// signIn logs alice in through the endpoint.
func (w *world) signIn() caller {
	w.t.Helper()
	key, err := dpop.GenerateKey()
	if err != nil {
		w.t.Fatal(err)
	}
	p := caller{w: w, key: key}
	var got struct {
		Token string `json:"token"`
	}
	p.want(200, "POST", api.RouteLogin, api.LoginRequest{IDToken: secret.FromString("t"), Random: base64.RawURLEncoding.EncodeToString(make([]byte, 32)), Method: api.MethodBrowser}, &got)
	p.token = secret.FromString(got.Token)
	return p
}

// TestFlows goes through the broker's flows on both backends.
func TestFlows(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) opener{
		"sqlite":   func(*testing.T) opener { return onSQLite },
		"postgres": func(t *testing.T) opener { return onPostgres(newDatabase(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := openWorld(t, open(t))
			alice, bastion := w.signIn(), w.machine()
			sam := w.login(func(s *state.Session) { s.Subject, s.Email = "sam", "sam@example.com" })
			alice.want(200, "POST", api.RouteCredentials, api.CredentialsRequest{Role: "dev-admin"}, nil)
			cert := alice.certificate()
			hop := bastion.hop(cert, 200)
			bastion.want(200, "POST", api.RouteReport, []api.Report{{ID: audit.NewID(), Time: w.clock.now(), Kind: "session.start", Outcome: "success", SessionID: hop.SessionID}}, nil)
			var live api.Sessions
			sam.want(200, "GET", api.RouteSessions, nil, &live)
			if len(live.Sessions) != 4 { // three logins, one of them a machine's, and the SSH session
				t.Errorf("sessions %+v", live.Sessions)
			}
			var receipt api.Receipt
			sam.want(200, "POST", api.RouteRevoke, api.RevokeRequest{Subject: "user", ID: "alice@example.com", Reason: "stolen"}, &receipt)
			if len(receipt.Plan.Sessions) != 2 || len(receipt.Plan.AWS) != 1 || len(receipt.Plan.Certificates) != 2 {
				t.Errorf("plan %+v", receipt.Plan)
			}
			if p := problemOf(t, alice.assume("dev-admin")); p.Kind != api.KindRevoked {
				t.Errorf("after the revocation: %+v", p)
			}
			bastion.hop(cert, 403)
			sam.want(200, "POST", api.RouteUnblock, api.UnblockRequest{ID: "alice@example.com", Reason: "found"}, nil)
			w.crash(sam)
			w.lose(bastion)
			if w.current(sam) || w.current(bastion) {
				t.Error("a session outlived the recovery")
			}
		})
	}
}

// crash lets a broker stop between an intent and its outcome; its next start settles it.
func (w *world) crash(p caller) {
	w.t.Helper()
	w.log.on(func(events []audit.Event) error {
		if len(events) == 1 && events[0].Kind == "aws.assume" && events[0].Outcome != audit.Intent {
			return errDisk
		}
		return nil
	})
	p.want(503, "POST", api.RouteCredentials, api.CredentialsRequest{Role: "dev-admin"}, nil)
	w.log.on(nil)
	if n := w.openIntents(); n != 1 {
		w.t.Errorf("%d intents are open, want 1", n)
	}
	w.restart()
	if trail := w.trail(); w.openIntents() != 0 || trail[len(trail)-1] != "aws.assume unknown" {
		w.t.Errorf("after the restart %d intents are open, and the log ends in %s", w.openIntents(), trail[len(trail)-1])
	}
}

// lose shows the broker a mark that its log does not hold.
func (w *world) lose(bastion caller) {
	w.t.Helper()
	_, tree := w.db.Head()
	status, _ := bastion.follow(mark(w.t, w.logKey, tlog.Tree{N: tree.N + 100, Hash: tlog.RecordHash([]byte("lost"))}))
	if status != 409 || !slices.Contains(w.trail(), "log.recovery success") {
		w.t.Errorf("a lost mark: %d, %v", status, w.trail())
	}
}

// peer starts another broker on the same database.
func (w *world) peer(node string, open opener) *world {
	w.t.Helper()
	p := &world{t: w.t, clock: w.clock, logKey: w.logKey, minter: w.minter, logs: w.logs}
	var err error
	if p.db, err = open(w.t, w.logKey); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = p.db.Close() })
	p.log = &brittleLog{Log: p.db}
	p.config = w.config
	p.config.Node, p.config.Log, p.config.Logger = node, p.log, slog.New(slog.DiscardHandler)
	p.restart()
	return p
}

// pair starts two brokers on one database.
func pair(t *testing.T) (a, b *world) {
	t.Helper()
	open := onPostgres(newDatabase(t))
	a = openWorld(t, open)
	return a, a.peer("node-2", open)
}

// TestTwoBrokers: what one of two brokers on a database decides, the other one knows at once.
func TestTwoBrokers(t *testing.T) {
	a, b := pair(t)
	alice, bastion := a.signIn(), a.machine()
	sam := a.login(func(s *state.Session) { s.Subject, s.Email = "sam", "sam@example.com" })

	serials := map[uint64]bool{}
	for range 3 {
		for _, w := range []*world{a, b} {
			cert := alice.at(w).certificate()
			if serials[cert.Serial] {
				t.Errorf("serial %d was given twice", cert.Serial)
			}
			serials[cert.Serial] = true
		}
	}
	cert := alice.certificate()
	bastion.at(b).hop(cert, 200) // issued at A, known at B
	alice.at(b).want(200, "POST", api.RouteCredentials, api.CredentialsRequest{Role: "dev-admin"}, nil)

	sam.want(200, "POST", api.RouteRevoke, api.RevokeRequest{Subject: "user", ID: "alice@example.com", Reason: "stolen"}, nil)
	if p := problemOf(t, alice.at(b).assume("dev-admin")); p.Kind != api.KindRevoked {
		t.Errorf("after the revocation at A, B says %+v", p)
	}
	bastion.at(b).hop(cert, 403)

	// Either's answer carries a checkpoint of the one log.
	verifier, err := note.NewVerifier(a.logKey.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []*world{a, b, a} {
		rec := sam.at(w).do("GET", api.RouteSession, nil)
		msg, err := base64.StdEncoding.DecodeString(rec.Header().Get(api.HeaderCheckpoint))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := audit.OpenCheckpoint(msg, verifier)
		if err != nil {
			t.Fatal(err)
		}
		a.s.awaitTree(t.Context(), signed.Tree.N)
		root, err := store.Root(t.Context(), a.db, signed.Tree.N)
		if err != nil || root != signed.Tree.Hash {
			t.Errorf("the checkpoint of %d events is not of the log: %v", signed.Tree.N, err)
		}
	}
}

// TestNewerCheckpoint: what A has just committed is no rollback for B, and no reason to void anything.
func TestNewerCheckpoint(t *testing.T) {
	a, b := pair(t)
	bastion := a.machine()
	sam := a.login(func(s *state.Session) { s.Subject = "sam" })
	for range 20 {
		sam.certificate()
		msg, tree := a.db.Head()
		rec := b.serve(httptest.NewRequest("GET", fmt.Sprintf("%s?from=0&to=%d", api.RouteConsistency, tree.N), nil))
		if rec.Code != 200 {
			t.Fatalf("B has no tree of %d events: %s", tree.N, rec.Body)
		}
		r := bastion.at(b).request("POST", api.RouteMachine, nil)
		r.Header.Set(api.HeaderCheckpoint, base64.StdEncoding.EncodeToString(msg))
		if err := b.s.checkMark(t.Context(), &call{request: r, session: bastion.session}, "bastion-1"); err != nil {
			t.Fatalf("B does not know the mark of %d events: %v", tree.N, err)
		}
	}
	if slices.Contains(a.trail(), "log.recovery success") || !a.current(sam) {
		t.Error("B has voided everything")
	}
}

// TestIntentsOfOthers: a broker that starts settles what its own earlier run left open, and leaves
// the other one's intents alone, which may be under way.
func TestIntentsOfOthers(t *testing.T) {
	a, b := pair(t)
	sam := a.login(func(s *state.Session) { s.Subject = "sam" })
	a.log.on(func(events []audit.Event) error {
		if len(events) == 1 && events[0].Kind == "aws.assume" && events[0].Outcome != audit.Intent {
			return errDisk
		}
		return nil
	})
	sam.want(503, "POST", api.RouteCredentials, api.CredentialsRequest{Role: "dev-admin"}, nil)
	a.log.on(nil)
	b.restart()
	if err := b.s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := a.openIntents(); n != 1 {
		t.Fatalf("%d intents of A are open after B's restart, want 1", n)
	}
	a.restart()
	if n := a.openIntents(); n != 0 {
		t.Errorf("%d intents are open after A's own restart", n)
	}
}

// TestRecoveryAtTheOther (R10): when A begins a new era of serials, B gives none of the old one.
func TestRecoveryAtTheOther(t *testing.T) {
	a, b := pair(t)
	before := b.login(func(s *state.Session) { s.Subject = "sam" }).certificate() // B has a block now
	a.lose(a.machine())
	sam := b.login(func(s *state.Session) { s.Subject, s.Epoch = "sam", 1000001 })
	rec := sam.do("POST", api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(sshKey(t))})
	if p := problemOf(t, rec); rec.Code != 503 || !strings.Contains(p.Detail, "new era") {
		t.Fatalf("B gave a certificate of the old era: %d %s", rec.Code, rec.Body)
	}
	if after := sam.certificate(); after.Serial>>32 <= before.Serial>>32 {
		t.Errorf("serial %d after %d: not a new era", after.Serial, before.Serial)
	}
}

// items reads a feed until the test ends.
func (p caller) items(t *testing.T) <-chan api.FeedItem {
	t.Helper()
	srv := httptest.NewServer(p.w.s)
	ctx, cancel := context.WithCancel(context.Background())
	r := p.request("GET", api.RouteFeed+"?after=-1", nil).WithContext(ctx)
	r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", srv.Listener.Addr().String()
	res, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("feed: %d %s", res.StatusCode, body)
	}
	items := make(chan api.FeedItem, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(items)
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			var item api.FeedItem
			if json.Unmarshal(lines.Bytes(), &item) == nil {
				items <- item
			}
		}
	})
	t.Cleanup(func() {
		p.w.s.Drain()
		cancel()
		_ = res.Body.Close()
		srv.Close()
		for range items { // let the reader end
		}
		wg.Wait()
	})
	return items
}

// TestFeedOfTheOther: a revocation at A reaches a bastion that follows B with B's next heartbeat.
func TestFeedOfTheOther(t *testing.T) {
	a, b := pair(t)
	sam := a.login(func(s *state.Session) { s.Subject, s.Email = "sam", "sam@example.com" })
	a.login()
	bastion := a.machine()
	items := bastion.at(b).items(t)
	for item := range items { // until it follows
		if item.Type == api.FeedHeartbeat {
			break
		}
	}
	done := make(chan api.Receipt, 1)
	go func() {
		var receipt api.Receipt
		sam.want(200, "POST", api.RouteRevoke, api.RevokeRequest{Subject: "user", ID: "alice@example.com", Reason: "stolen"}, &receipt)
		done <- receipt
	}()
	late := time.After(10 * time.Second)
	beats := 0
	for {
		select {
		case item := <-items:
			switch {
			case item.Type == api.FeedHeartbeat:
				beats++
			case item.Type == api.FeedRevoke && item.Revocation.Subject == "alice":
				bastion.at(b).want(200, "POST", api.RouteAck, api.Ack{Index: item.Revocation.Index, Closed: 2}, nil)
				receipt := <-done
				if !slices.ContainsFunc(receipt.Points, func(p api.Point) bool { return p.Name == "bastion-1" && p.Acknowledged && p.Closed == 2 }) {
					t.Errorf("A's receipt does not say what B's bastion did: %+v", receipt.Points)
				}
				return
			}
		case <-late:
			t.Fatalf("the revocation did not come in %d heartbeats", beats)
		}
	}
}
