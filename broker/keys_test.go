package broker

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

const keyPolicies = `
@id("register") @max_duration("720h")
permit (principal in Group::"engineering", action == Action::"registerKey", resource);
@id("by-key") @registered_key("allowed")
permit (principal in Group::"engineering", action == Action::"connect", resource == Host::"web-1");
@id("vault") @require_hardware_key("yes") @registered_key("allowed")
permit (principal in Group::"engineering", action == Action::"connect", resource == Host::"vault-1");
@id("root") @require_user_verification("yes")
permit (principal in Group::"engineering", action == Action::"connect", resource == Host::"root-1");
@id("connect")
permit (principal in Group::"engineering", action == Action::"connect", resource == Host::"db-1");
@id("own") permit (principal, action == Action::"listSessions", resource is Session) when { resource has owner && resource.owner == principal.id };
@id("security") permit (principal in Group::"security", action in [Action::"revoke", Action::"unblock", Action::"listSessions"], resource);
`

// keyWorld is a broker where people may register keys, which open web-1, of FIDO2 vault-1, and not db-1 or root-1.
func keyWorld(t testing.TB) *world {
	return newWorld(t, func(c *Config) {
		c.Times = DefaultTimes()
		c.Times.RevokeWait = time.Millisecond // no bastion follows
		for _, name := range []string{"vault-1", "root-1", "db-1"} {
			c.Hosts = append(c.Hosts, Host{Name: name, ID: "id-" + name, Address: "192.0.2.2:22", Logins: []string{"deploy"}})
		}
	}).withPolicies(policies + keyPolicies)
}

func (w *world) withPolicies(text string) *world {
	w.t.Helper()
	w.mu.Lock()
	w.policy = fstest.MapFS{"p.cedar": {Data: []byte(text)}}
	w.mu.Unlock()
	if err := w.config.Policy.Reload(); err != nil {
		w.t.Fatal(err)
	}
	return w
}

// token is an sk-ssh-ed25519 key in software (OpenSSH's PROTOCOL.u2f), whose flags are at will.
type token struct {
	private ed25519.PrivateKey
	flags   byte
}

func newToken(t testing.TB, flags byte) *token {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &token{private, flags}
}

func (k *token) PublicKey() ssh.PublicKey {
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type string
		Key  []byte
		App  string
	}{ssh.KeyAlgoSKED25519, k.private.Public().(ed25519.PublicKey), "ssh:"}))
	if err != nil {
		panic(err)
	}
	return key
}

func (k *token) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, sum := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	rest := binary.BigEndian.AppendUint32([]byte{k.flags}, 7)
	signed := append(append(app[:], rest...), sum[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(k.private, signed), Rest: rest}, nil
}

// signText is what ssh-keygen -Y sign makes of a text.
func signText(t testing.TB, key ssh.Signer, namespace string, text []byte) string {
	t.Helper()
	sum := sha512.Sum512(text)
	sig, err := key.Sign(rand.Reader, append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{namespace, "", "sha512", string(sum[:])})...))
	if err != nil {
		t.Fatal(err)
	}
	blob := ssh.Marshal(struct {
		Version                        uint32
		Key                            []byte
		Namespace, Reserved, Hash, Sig string
	}{1, key.PublicKey().Marshal(), namespace, "", "sha512", string(ssh.Marshal(sig))})
	return string(pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: append([]byte("SSHSIG"), blob...)}))
}

// prove makes the proof that the caller has the private half of a key.
func (p caller) prove(key ssh.Signer, purpose string) api.KeyProof {
	p.w.t.Helper()
	nonce := p.w.s.nonces.Issue()
	return api.KeyProof{Nonce: nonce, Signature: signText(p.w.t, key, api.ProofNamespace, api.ProofText(purpose, origin, p.session.ID, ssh.FingerprintSHA256(key.PublicKey()), nonce))}
}

func (p caller) registration(key ssh.Signer, name string) api.RegisterKeyRequest {
	return api.RegisterKeyRequest{PublicKey: sshca.MarshalLine(key.PublicKey()), Name: name, Proof: p.prove(key, api.ProofRegister)}
}

func (p caller) register(key ssh.Signer, name string) (k api.Key) {
	p.w.t.Helper()
	p.want(200, "POST", api.RouteKeys, p.registration(key, name), &k)
	return k
}

// byKey asks, as a bastion, for the way of a registered key's holder to a host.
func (p caller) byKey(key ssh.PublicKey, host string) *httptest.ResponseRecorder {
	p.w.t.Helper()
	return p.do("POST", api.RouteHop, api.HopRequest{AccessKey: ssh.FingerprintSHA256(key), Host: host, Login: "deploy", Source: "192.0.2.50",
		HopKey: sshca.MarshalLine(sshKey(p.w.t)), Route: "direct"})
}

func wantKind(t *testing.T, rec *httptest.ResponseRecorder, kind api.Kind) {
	t.Helper()
	if kind == "" {
		if rec.Code != http.StatusOK {
			t.Errorf("answered %d: %s", rec.Code, rec.Body)
		}
		return
	}
	if p := problemOf(t, rec); rec.Code == http.StatusOK || p.Kind != kind {
		t.Errorf("answered %d %+v, want %s", rec.Code, p, kind)
	}
}

// TestRegisterKey: a key is good for as long as policy says, at most, and opens what a permit names it for.
func TestRegisterKey(t *testing.T) {
	w := keyWorld(t)
	alice, bastion, key := w.login(), w.machine(), signer(t)
	k := alice.register(key, "laptop")
	want := api.Key{ID: k.ID, Name: "laptop", Type: "ssh-ed25519", Fingerprint: ssh.FingerprintSHA256(key.PublicKey()),
		Person: api.Person{Issuer: issuer, Subject: "alice", Email: "alice@example.com"}, Created: w.clock.now(), Expires: w.clock.now().Add(720 * time.Hour)}
	if diff := cmp.Diff(want, k); diff != "" || !strings.HasPrefix(k.ID, api.IDKey) {
		t.Errorf("%s: -want +got\n%s", k.ID, diff)
	}
	wantKind(t, bastion.byKey(key.PublicKey(), "web-1"), "")
	for _, host := range []string{"db-1", "root-1", "vault-1", "unknown"} {
		wantKind(t, bastion.byKey(key.PublicKey(), host), api.KindDenied)
	}
	var mine api.Keys
	alice.want(200, "GET", api.RouteKeys, nil, &mine)
	used := w.clock.now()
	want.Used = &used
	if diff := cmp.Diff(api.Keys{Keys: []api.Key{want}}, mine); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, e := range w.events() {
		if e.Kind == "ssh.hop" && (e.Actor.Email != "alice@example.com" || e.LoginID != k.ID) {
			t.Errorf("%s names %+v, %s", e.Kind, e.Actor, e.LoginID)
		}
	}
	// The key is not among the sessions that live, and its session ends with a day's work.
	var live api.Sessions
	alice.want(200, "GET", api.RouteSessions, nil, &live)
	for _, s := range live.Sessions {
		if s.Kind != "login" && s.Kind != "ssh" {
			t.Errorf("%+v is listed", s)
		}
	}
	short := alice.registration(signer(t), "short")
	short.Seconds = 60
	var v api.Key
	alice.want(200, "POST", api.RouteKeys, short, &v)
	if v.Expires != w.clock.now().Add(time.Minute) {
		t.Errorf("a key of a minute lives until %v", v.Expires)
	}
}

// TestRegisteredKeysOfFIDO: hardware opens what asks for it; a touch is no PIN, and no registered key is one that
// has verified its user, whatever it showed when it was registered.
func TestRegisteredKeysOfFIDO(t *testing.T) {
	w := keyWorld(t)
	alice, bastion, key := w.login(), w.machine(), newToken(t, 5)
	alice.register(key, "yubikey")
	wantKind(t, bastion.byKey(key.PublicKey(), "vault-1"), "")
	wantKind(t, bastion.byKey(key.PublicKey(), "root-1"), api.KindDenied)
	if rec := alice.do("POST", api.RouteKeys, alice.registration(newToken(t, 0), "untouched")); rec.Code == 200 {
		t.Error("a key that nobody touched was registered")
	}
}

// TestRegisterKeyAttacks: what is not the caller's own key, proven now and here, is not registered.
func TestRegisterKeyAttacks(t *testing.T) {
	w := keyWorld(t)
	alice, mallory := w.login(), w.login(func(s *state.Session) { s.Subject, s.Email = "mallory", "mallory@example.com" })
	theirs, own := signer(t), signer(t)
	alice.register(theirs, "laptop")
	stale := mallory.registration(signer(t), "stale")
	w.clock.add(3 * time.Minute)
	tests := map[string]struct {
		as     caller
		change func(r *api.RegisterKeyRequest)
		kind   api.Kind
	}{
		"no proof":                  {mallory, func(r *api.RegisterKeyRequest) { r.Proof.Signature = "" }, api.KindDenied},
		"somebody's public key":     {mallory, func(r *api.RegisterKeyRequest) { r.PublicKey = sshca.MarshalLine(signer(t).PublicKey()) }, api.KindDenied},
		"a proof by another key":    {mallory, func(r *api.RegisterKeyRequest) { r.Proof = mallory.prove(signer(t), api.ProofRegister) }, api.KindDenied},
		"a proof for verification":  {mallory, func(r *api.RegisterKeyRequest) { r.Proof = mallory.prove(own, api.ProofVerify) }, api.KindDenied},
		"another login's proof":     {mallory, func(r *api.RegisterKeyRequest) { r.Proof = alice.prove(own, api.ProofRegister) }, api.KindDenied},
		"a nonce of one's own":      {mallory, func(r *api.RegisterKeyRequest) { r.Proof.Nonce = strings.Repeat("A", 32) }, api.KindDenied},
		"an old nonce":              {mallory, func(r *api.RegisterKeyRequest) { *r = stale }, api.KindDenied},
		"a file's signature":        {mallory, func(r *api.RegisterKeyRequest) { r.Proof.Signature = signText(t, own, "file", []byte("x")) }, api.KindDenied},
		"a key of another person":   {mallory, func(r *api.RegisterKeyRequest) { *r = mallory.registration(theirs, "mine") }, api.KindDenied},
		"the same key again":        {alice, func(r *api.RegisterKeyRequest) { *r = alice.registration(theirs, "again") }, api.KindConflict},
		"another key by its name":   {alice, func(r *api.RegisterKeyRequest) { *r = alice.registration(signer(t), "laptop") }, api.KindConflict},
		"a name that is a flag":     {mallory, func(r *api.RegisterKeyRequest) { r.Name = "--all" }, api.KindInvalid},
		"a name that is an ID":      {mallory, func(r *api.RegisterKeyRequest) { r.Name = "key_abc" }, api.KindInvalid},
		"a name with an escape":     {mallory, func(r *api.RegisterKeyRequest) { r.Name = "a\x1b[2J" }, api.KindInvalid},
		"a negative life":           {mallory, func(r *api.RegisterKeyRequest) { r.Seconds = -1 }, api.KindInvalid},
		"a certificate":             {mallory, func(r *api.RegisterKeyRequest) { r.PublicKey = sshca.MarshalLine(alice.certificate()) }, api.KindInvalid},
		"by somebody without leave": {w.login(func(s *state.Session) { s.Subject, s.Groups = "carol", []string{"sales"} }), nil, api.KindDenied},
		"by a device login":         {w.login(func(s *state.Session) { s.Subject, s.Method = "dora", api.MethodDevice }), nil, api.KindDenied},
		"by a login without MFA":    {w.login(func(s *state.Session) { s.Subject, s.MFA = "eve", false }), nil, api.KindMFA},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := tt.as.registration(own, "mine")
			if tt.change != nil {
				tt.change(&r)
			}
			wantKind(t, tt.as.do("POST", api.RouteKeys, r), tt.kind)
		})
	}
	once := mallory.registration(own, "mine")
	wantKind(t, mallory.do("POST", api.RouteKeys, once), "")
	w.remove(mallory, "mine")
	wantKind(t, mallory.do("POST", api.RouteKeys, once), api.KindDenied) // the proof is spent
	w.clock.add(time.Second)                                             // a nonce of another time
	wantKind(t, mallory.do("POST", api.RouteKeys, mallory.registration(own, "mine")), "")
}

// remove removes a key of the caller's by its name.
func (w *world) remove(p caller, name string) {
	w.t.Helper()
	var mine api.Keys
	p.want(200, "GET", api.RouteKeys, nil, &mine)
	for _, k := range mine.Keys {
		if k.Name == name {
			wantCode(w.t, p.do("POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectKey, ID: k.ID, Reason: "done with it"}))
			return
		}
	}
	w.t.Fatalf("there is no key %s", name)
}

func wantCode(t testing.TB, rec *httptest.ResponseRecorder) {
	t.Helper()
	if rec.Code != http.StatusOK {
		t.Fatalf("answered %d: %s", rec.Code, rec.Body)
	}
}

// TestKeysEnd goes through everything that ends a key: it opens nothing from then on, and whether it may come back.
func TestKeysEnd(t *testing.T) {
	security := func(s *state.Session) { s.Subject, s.Email, s.Groups = "sam", "sam@example.com", []string{"security"} }
	for name, tt := range map[string]struct {
		end   func(w *world, alice caller, k api.Key)
		kind  api.Kind // of the hop's refusal
		again bool     // may its person register it once more
	}{
		"removed by its person": {func(w *world, alice caller, k api.Key) { w.remove(alice, k.Name) }, api.KindDenied, true},
		"expired":               {func(w *world, _ caller, k api.Key) { w.clock.add(k.Expires.Sub(w.clock.now())) }, api.KindDenied, true},
		"removed by security": {func(w *world, _ caller, k api.Key) {
			wantCode(w.t, w.login(security).do("POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectKey, ID: k.ID, Reason: "stolen"}))
		}, api.KindRevoked, false},
		"revoked as a session": {func(w *world, _ caller, k api.Key) {
			wantCode(w.t, w.login(security).do("POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectSession, ID: k.ID, Reason: "stolen"}))
		}, api.KindRevoked, false},
		"its person revoked, and unblocked": {func(w *world, _ caller, _ api.Key) {
			sam := w.login(security)
			wantCode(w.t, sam.do("POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectUser, ID: "alice@example.com", Reason: "left"}))
			wantCode(w.t, sam.do("POST", api.RouteUnblock, api.UnblockRequest{ID: "alice@example.com", Reason: "came back"}))
		}, api.KindRevoked, false},
		"moved out of its groups": {func(w *world, alice caller, _ api.Key) {
			alice.session.Groups = []string{"sales"}
			w.write(func(ctx context.Context, tx store.Tx) error { return state.FollowLogin(ctx, tx, alice.session) })
		}, api.KindDenied, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := keyWorld(t)
			alice, bastion, key := w.login(), w.machine(), signer(t)
			k := alice.register(key, "laptop")
			wantKind(t, bastion.byKey(key.PublicKey(), "web-1"), "")
			tt.end(w, alice, k)
			later := w.login(func(s *state.Session) {
				s.Epoch = 1
				w.read(func(ctx context.Context, tx store.Querier) error {
					v, err := state.SubjectByID(ctx, tx, issuer, "alice")
					s.Epoch = v.Epoch
					return err
				})
			})
			bastion = w.machineAgain(bastion)
			wantKind(t, bastion.byKey(key.PublicKey(), "web-1"), tt.kind)
			if name == "moved out of its groups" {
				return
			}
			wantKind(t, w.login(func(s *state.Session) { s.Subject = "mallory" }).do("POST", api.RouteKeys, api.RegisterKeyRequest{}), api.KindInvalid)
			kind := api.Kind("")
			if !tt.again {
				kind = api.KindDenied
			}
			wantKind(t, later.do("POST", api.RouteKeys, later.registration(key, "again")), kind)
		})
	}
}

// machineAgain gives a machine whose session has expired a new one.
func (w *world) machineAgain(p caller) caller {
	w.t.Helper()
	p.token = api.NewToken(api.PrefixMachine)
	now := w.clock.now()
	p.session.ID, p.session.TokenHash, p.session.Expires, p.session.NotAfter = api.NewID(api.IDLogin), hashToken(p.token), now.Add(time.Hour), now.Add(time.Hour)
	w.write(func(ctx context.Context, tx store.Tx) error { return state.AddSession(ctx, tx, p.session) })
	return p
}

func (w *world) read(f func(context.Context, store.Querier) error) {
	w.t.Helper()
	if err := w.db.Read(context.Background(), f); err != nil {
		w.t.Fatal(err)
	}
}

// TestOthersKeys: who may not see or end everybody's sessions sees and ends no key of others.
func TestOthersKeys(t *testing.T) {
	w := keyWorld(t)
	alice, bob := w.login(), w.login(func(s *state.Session) { s.Subject, s.Email = "bob", "bob@example.com" })
	sam := w.login(func(s *state.Session) { s.Subject, s.Email, s.Groups = "sam", "sam@example.com", []string{"security"} })
	k := alice.register(signer(t), "laptop")
	var got api.Keys
	bob.want(200, "GET", api.RouteKeys, nil, &got)
	if len(got.Keys) != 0 {
		t.Errorf("bob sees %+v", got)
	}
	for _, who := range []string{"alice@example.com", "*", "nobody@example.com"} {
		wantKind(t, bob.do("GET", api.RouteKeys+"?user="+who, nil), api.KindDenied)
	}
	for _, id := range []string{k.ID, "key_aaaaaaaaaaaaaaaaaaaa"} {
		wantKind(t, bob.do("POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectKey, ID: id, Reason: "x"}), api.KindDenied)
	}
	wantKind(t, alice.do("POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectKey, ID: alice.session.ID, Reason: "x"}), api.KindDenied)
	for _, who := range []string{"alice@example.com", "*"} {
		sam.want(200, "GET", api.RouteKeys+"?user="+who, nil, &got)
		if len(got.Keys) != 1 || got.Keys[0].ID != k.ID {
			t.Errorf("sam sees %+v of %s", got, who)
		}
	}
	wantKind(t, sam.do("GET", api.RouteKeys+"?user=x&user=y", nil), api.KindInvalid)
	wantKind(t, sam.do("GET", api.RouteKeys+"?all=1", nil), api.KindInvalid)
	// What a key is kept as is no session for anybody.
	wantKind(t, sam.do("GET", api.RouteKeys+"?user=nobody@example.com", nil), api.KindNotFound)
}

// TestKeysEach: a person has twenty keys at the most, and nobody else's count.
func TestKeysEach(t *testing.T) {
	w := keyWorld(t)
	alice, bob := w.login(), w.login(func(s *state.Session) { s.Subject = "bob" })
	for i := range keysEach {
		alice.register(signer(t), fmt.Sprintf("key-%d", i))
	}
	wantKind(t, alice.do("POST", api.RouteKeys, alice.registration(signer(t), "one-more")), api.KindDenied)
	bob.register(signer(t), "first")
	w.remove(alice, "key-3")
	alice.register(signer(t), "one-more")
}

// TestVerifiedCertificates: verify-required, and what it opens, needs a signature of the key that says so.
func TestVerifiedCertificates(t *testing.T) {
	w := keyWorld(t)
	alice, bastion := w.login(), w.machine()
	touch, pin, plain := newToken(t, 1), newToken(t, 5), signer(t)
	certify := func(key ssh.Signer, proof *api.KeyProof) *httptest.ResponseRecorder {
		return alice.do("POST", api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(key.PublicKey()), Proof: proof})
	}
	proof := func(key ssh.Signer, purpose string) *api.KeyProof { p := alice.prove(key, purpose); return &p }
	for name, tt := range map[string]struct {
		key   ssh.Signer
		proof *api.KeyProof
		kind  api.Kind
		opens map[string]bool
	}{
		"a plain key":                    {plain, nil, "", map[string]bool{"db-1": true}},
		"a plain key that claims more":   {plain, proof(plain, api.ProofVerify), api.KindDenied, nil},
		"a FIDO2 key":                    {touch, nil, "", map[string]bool{"db-1": true, "vault-1": true}},
		"a FIDO2 key without a PIN":      {touch, proof(touch, api.ProofVerify), api.KindDenied, nil},
		"a FIDO2 key with a PIN":         {pin, proof(pin, api.ProofVerify), "", map[string]bool{"db-1": true, "vault-1": true, "root-1": true}},
		"its proof of another key":       {touch, proof(pin, api.ProofVerify), api.KindDenied, nil},
		"its proof for a registration":   {pin, proof(pin, api.ProofRegister), api.KindDenied, nil},
		"a FIDO2 key that showed no PIN": {pin, nil, "", map[string]bool{"db-1": true, "vault-1": true}},
		"somebody else's proof of his key": {pin, func() *api.KeyProof {
			p := w.login(func(s *state.Session) { s.Subject = "bob" }).prove(pin, api.ProofVerify)
			return &p
		}(), api.KindDenied, nil},
	} {
		t.Run(name, func(t *testing.T) {
			rec := certify(tt.key, tt.proof)
			wantKind(t, rec, tt.kind)
			if rec.Code != http.StatusOK || tt.kind != "" {
				return
			}
			var got api.Certificate
			if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			cert, err := sshca.ParseCertificate(got.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			if _, has := cert.CriticalOptions["verify-required"]; has != tt.opens["root-1"] {
				t.Errorf("critical options %v", cert.CriticalOptions)
			}
			for _, host := range []string{"db-1", "vault-1", "root-1"} {
				rec := bastion.do("POST", api.RouteHop, api.HopRequest{AccessSerial: cert.Serial, AccessKey: ssh.FingerprintSHA256(cert.Key), Host: host, Login: "deploy",
					Source: "192.0.2.50", HopKey: sshca.MarshalLine(sshKey(t)), Route: "direct"})
				if (rec.Code == http.StatusOK) != tt.opens[host] {
					t.Errorf("%s answered %d: %s", host, rec.Code, rec.Body)
				}
			}
			if tt.proof != nil { // spent
				wantKind(t, certify(tt.key, tt.proof), api.KindDenied)
			}
		})
	}
}

// TestMasksForKeys: who wants a mask by a registered key is named, and a key that is none gets none.
func TestMasksForKeys(t *testing.T) {
	w := keyWorld(t)
	alice, bastion, key := w.login(), w.machine(), signer(t)
	k := alice.register(key, "laptop")
	mask := func(key ssh.PublicKey) *httptest.ResponseRecorder {
		return bastion.do("POST", api.RouteFront, api.FrontRequest{PublicKey: sshca.MarshalLine(sshKey(t)), Host: "web-1", AccessKey: ssh.FingerprintSHA256(key)})
	}
	wantKind(t, mask(signer(t).PublicKey()), api.KindDenied)
	wantKind(t, mask(key.PublicKey()), "")
	all := w.events()
	if e := all[len(all)-1]; e.Kind != "ssh.front" || e.LoginID != k.ID || e.Actor.Sub != "alice" {
		t.Errorf("the event names %+v, %s", e.Actor, e.LoginID)
	}
	w.remove(alice, "laptop")
	wantKind(t, mask(key.PublicKey()), api.KindDenied)
}

// TestFeedTellsKeys: bastions hear of the keys that are good, in parts that make one set, and of no others. A broker
// that never had one sends nothing that an older bastion does not know.
func TestFeedTellsKeys(t *testing.T) {
	const people = 60 // more keys than one item holds
	w := keyWorld(t)
	bastion := w.machine()
	if _, body := bastion.follow(""); strings.Contains(body, api.FeedKeys) {
		t.Errorf("no keys, and the feed says\n%s", body)
	}
	want := map[string]string{}
	for i := range people {
		p := w.login(func(s *state.Session) { s.Subject = fmt.Sprintf("p%d", i) })
		for j := range 10 {
			key := signer(t)
			k := state.PersonKey{ID: api.NewID(api.IDKey), Issuer: issuer, Subject: p.session.Subject, Name: fmt.Sprint(j), Fingerprint: ssh.FingerprintSHA256(key.PublicKey()),
				PublicKey: sshca.MarshalLine(key.PublicKey()), Created: w.clock.now(), Expires: w.clock.now().Add(time.Duration(j) * time.Hour)}
			w.write(func(ctx context.Context, tx store.Tx) error { return w.s.addKey(ctx, tx, &call{session: p.session}, k) })
			if j > 0 { // the first has expired
				want[k.Fingerprint] = k.ID
			}
		}
	}
	_, body := bastion.follow("")
	got, parts, last := map[string]string{}, 0, false
	for line := range strings.Lines(body) {
		var item api.FeedItem
		if err := json.Unmarshal([]byte(line), &item); err != nil {
			t.Fatal(err)
		}
		if item.Type != api.FeedKeys {
			continue
		}
		if item.Keys.First != (parts == 0) || last || item.LeaseMS == 0 {
			t.Errorf("part %d: first %v, after the last %v, lease %d", parts, item.Keys.First, last, item.LeaseMS)
		}
		for _, k := range item.Keys.Keys {
			got[k.Fingerprint] = k.ID
		}
		parts, last = parts+1, item.Keys.Last
	}
	if diff := cmp.Diff(want, got); diff != "" || parts != 2 || !last {
		t.Errorf("%d parts, last %v\n%s", parts, last, diff)
	}
}

// TestChannelsOfKeys: what begins in a session is decided by the key that opened it, and not for one that is gone.
func TestChannelsOfKeys(t *testing.T) {
	w := keyWorld(t)
	alice, bastion, key := w.login(), w.machine(), newToken(t, 1)
	alice.register(key, "yubikey")
	rec := bastion.byKey(key.PublicKey(), "vault-1")
	wantCode(t, rec)
	var hop api.Hop
	if err := json.Unmarshal(rec.Body.Bytes(), &hop); err != nil {
		t.Fatal(err)
	}
	if most := w.clock.now().Add(w.config.Times.Login); hop.NotAfter.After(most) {
		t.Errorf("the session may last until %v", hop.NotAfter)
	}
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.SetSSHState(ctx, tx, hop.SessionID, state.SSHLive)
	})
	shell := asking(func(r *api.ChannelRequest) { r.SessionID = hop.SessionID })
	if g, _ := bastion.ask(shell); !g.Allow {
		t.Errorf("a shell: %+v", g)
	}
	forwarded := asking(func(r *api.ChannelRequest) {
		r.SessionID, r.Type, r.Host, r.Port = hop.SessionID, api.ChannelDirectTCP, "db.corp.example", 5432
	})
	if g, _ := bastion.ask(forwarded); g.Allow {
		t.Errorf("a forward: %+v", g)
	}
	w.remove(alice, "yubikey")
	shell.ID, shell.Channel = audit.NewID(), 2
	if rec := bastion.do("POST", api.RouteChannel, shell); rec.Code == http.StatusOK && strings.Contains(rec.Body.String(), `"allow":true`) {
		t.Errorf("a shell by a key that is gone: %s", rec.Body)
	}
}
