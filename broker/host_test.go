package broker

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/state"
	"sega/keychain/secret"
	"sega/sshca"
)

const hostPolicies = policies + `
@id("hosts-enrol")
permit (principal in Group::"engineering", action == Action::"enrollHost", resource is Host)
when { resource.hasTag("env") && resource.getTag("env") == "dev" };
@id("hosts-connect")
permit (principal in Group::"engineering", action == Action::"connect", resource is Host);
`

func newHostWorld(t testing.TB, change ...func(*Config)) *world {
	w := newWorld(t, change...)
	w.mu.Lock()
	w.policy = fstest.MapFS{"p.cedar": {Data: []byte(hostPolicies)}}
	w.mu.Unlock()
	if err := w.s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// read decodes an answer that must be one of success.
func read[T any](t testing.TB, rec *httptest.ResponseRecorder) (v T) {
	t.Helper()
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// refused wants a problem of a kind whose detail says something.
func refused(t testing.TB, rec *httptest.ResponseRecorder, kind api.Kind, says string) {
	t.Helper()
	if p := problemOf(t, rec); p.Kind != kind || !strings.Contains(p.Detail, says) {
		t.Errorf("answered %s %q, want %s with %q", p.Kind, p.Detail, kind, says)
	}
}

func hostTokenFor(name string) api.HostTokenRequest {
	return api.HostTokenRequest{Name: name, Address: name + ":22", Logins: []string{"deploy"}, Labels: map[string]string{"env": "dev"}, Reason: "a new host"}
}

// enrolling is a key that a host wants to enrol.
func (w *world) stranger() caller {
	w.t.Helper()
	key, err := dpop.GenerateKey()
	if err != nil {
		w.t.Fatal(err)
	}
	return caller{w: w, key: key}
}

// enrolledHost makes a token, enrols a host with it and opens its session.
func (w *world) enrolledHost(change ...func(*api.HostTokenRequest)) (caller, api.HostEnrolled) {
	w.t.Helper()
	r := hostTokenFor("db-1")
	for _, f := range change {
		f(&r)
	}
	token := read[api.HostToken](w.t, w.login().do("POST", api.RouteHostToken, r))
	h := w.stranger()
	v := read[api.HostEnrolled](w.t, h.do("POST", api.RouteHostEnroll, api.HostEnrollRequest{Name: r.Name, Token: token.Token, HostKeys: []string{sshca.MarshalLine(signer(w.t).PublicKey())}}))
	return h.opened(), v
}

// opened opens the session of an enrolled machine.
func (p caller) opened() caller {
	p.w.t.Helper()
	p.token = secret.Secret{}
	s := read[struct{ Token string }](p.w.t, p.do("POST", api.RouteMachine, api.Empty{}))
	p.token = secret.FromString(s.Token)
	return p
}

// TestHostEnrols goes from a token to a certificate, a bundle and a place in the inventory.
func TestHostEnrols(t *testing.T) {
	w := newHostWorld(t)
	h, v := w.enrolledHost()
	want := api.HostEnrolled{Machine: api.Machine{ID: v.Machine.ID, Name: "db-1", Kind: api.MachineHost}, HostID: "db-1", Logins: []string{"deploy"}, Labels: map[string]string{"env": "dev"}}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("enrolled (-want +got):\n%s", diff)
	}
	key := signer(t).PublicKey()
	cert := read[api.Certificate](t, h.do("POST", api.RouteHostCertificate, api.HostCertificateRequest{PublicKey: sshca.MarshalLine(key)}))
	parsed, err := sshca.ParseCertificate(cert.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if err := sshca.CheckHost(parsed, sshca.Bundle{w.config.CAs.Host[0].PublicKey()}, "db-1", w.clock.now()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"db-1"}, parsed.ValidPrincipals); diff != "" {
		t.Error(diff)
	}
	b := read[api.HostBundle](t, h.do("GET", api.RouteHostBundle, nil))
	wantBundle := api.HostBundle{Version: w.clock.now().UnixMilli(), Name: "db-1", HostID: "db-1", HopCAs: []string{sshca.MarshalLine(w.config.CAs.Hop[0].PublicKey())},
		HostCAs: []string{sshca.MarshalLine(w.config.CAs.Host[0].PublicKey())}, Trust: b.Trust, KRL: b.KRL, Logins: []string{"deploy"}, Accounts: []api.HostAccount{}}
	if diff := cmp.Diff(wantBundle, b); diff != "" {
		t.Errorf("bundle (-want +got):\n%s", diff)
	}
	if b.KRL == 0 {
		t.Error("the bundle names no revocation list")
	}
	found, ok := w.s.host("db-1")
	if !ok || found.Address != "db-1:22" || found.ID != "db-1" || found.Labels["env"] != "dev" || len(found.HostKeys) != 0 {
		t.Errorf("inventory has %+v, %v", found, ok)
	}
	if all := w.s.allHosts(); len(all) != 2 || all[0].Name != "web-1" || all[1].Name != "db-1" {
		t.Errorf("inventory: %+v", all)
	}
	for _, line := range []string{"host.token success", "host.enroll success", "node.session success", "host.cert success"} {
		if !strings.Contains(strings.Join(w.trail(), "\n"), line) {
			t.Errorf("the log has no %q: %v", line, w.trail())
		}
	}
}

// TestHostTokens tries to get a token for what must not be, and to spend one for something else (R6, R7).
func TestHostTokens(t *testing.T) {
	w := newHostWorld(t, func(c *Config) { c.Indexers, c.HostDomains = []string{"indexer-1"}, []string{"corp.example"} })
	alice := w.login()
	for name, tt := range map[string]struct {
		change func(*api.HostTokenRequest)
		kind   api.Kind
		says   string
	}{
		"a bastion's name":          {func(r *api.HostTokenRequest) { r.Name = "bastion-1" }, api.KindConflict, "a bastion"},
		"an indexer's name":         {func(r *api.HostTokenRequest) { r.Name = "indexer-1" }, api.KindConflict, "an indexer"},
		"a configured host's name":  {func(r *api.HostTokenRequest) { r.Name = "web-1" }, api.KindConflict, "configuration"},
		"a configured host's ID":    {func(r *api.HostTokenRequest) { r.Name = "host-1" }, api.KindConflict, "configuration"},
		"a public name":             {func(r *api.HostTokenRequest) { r.Name = "github.com" }, api.KindConflict, "host_domains"},
		"an address as a name":      {func(r *api.HostTokenRequest) { r.Name = "10.0.0.1" }, api.KindConflict, "host_domains"},
		"beside a domain":           {func(r *api.HostTokenRequest) { r.Name = "evilcorp.example" }, api.KindConflict, "host_domains"},
		"a domain itself":           {func(r *api.HostTokenRequest) { r.Name = "corp.example" }, api.KindConflict, "host_domains"},
		"a domain's end is another": {func(r *api.HostTokenRequest) { r.Name = "db-1.corp.example.evil" }, api.KindConflict, "host_domains"},
		"the alias of bastions":     {func(r *api.HostTokenRequest) { r.Name = "sega-bastion" }, api.KindConflict, "ssh_config"},
		"everybody's machine":       {func(r *api.HostTokenRequest) { r.Name = "localhost" }, api.KindConflict, "every machine"},
		"a wildcard":                {func(r *api.HostTokenRequest) { r.Name = "*" }, api.KindInvalid, "name"},
		"a wildcard below":          {func(r *api.HostTokenRequest) { r.Name = "*.example" }, api.KindInvalid, "name"},
		"two names":                 {func(r *api.HostTokenRequest) { r.Name = "a,b" }, api.KindInvalid, "name"},
		"no name":                   {func(r *api.HostTokenRequest) { r.Name = "" }, api.KindInvalid, "name"},
		"upper case":                {func(r *api.HostTokenRequest) { r.Name = "BASTION-1" }, api.KindInvalid, "name"},
		"no port":                   {func(r *api.HostTokenRequest) { r.Address = "db-1" }, api.KindInvalid, "host:port"},
		"an address that is none":   {func(r *api.HostTokenRequest) { r.Address = "db 1:22" }, api.KindInvalid, "DNS"},
		"a login that is a session": {func(r *api.HostTokenRequest) { r.Logins = []string{"ses_abc"} }, api.KindInvalid, "login"},
		"a login of two":            {func(r *api.HostTokenRequest) { r.Logins = []string{"a,b"} }, api.KindInvalid, "login"},
		"labels that policy denies": {func(r *api.HostTokenRequest) { r.Labels = map[string]string{"env": "prod"} }, api.KindDenied, "enrollHost"},
		"no labels":                 {func(r *api.HostTokenRequest) { r.Labels = nil }, api.KindDenied, "enrollHost"},
		"a label of two lines":      {func(r *api.HostTokenRequest) { r.Labels = map[string]string{"env": "dev", "x": "a\nb"} }, api.KindInvalid, "label"},
		"for ever":                  {func(r *api.HostTokenRequest) { r.Seconds = 1 << 40 }, api.KindInvalid, "lives"},
	} {
		t.Run(name, func(t *testing.T) {
			r := hostTokenFor("db-1")
			tt.change(&r)
			refused(t, alice.do("POST", api.RouteHostToken, r), tt.kind, tt.says)
		})
	}
	device := w.login(func(s *state.Session) { s.Method = api.MethodDevice })
	refused(t, device.do("POST", api.RouteHostToken, hostTokenFor("db-1")), api.KindDenied, "browser")
	bastion := w.login(func(s *state.Session) {
		s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, "mch_1", "bastion-1"
	})
	refused(t, bastion.do("POST", api.RouteHostToken, hostTokenFor("db-1")), api.KindDenied, "machine")

	token := read[api.HostToken](t, alice.do("POST", api.RouteHostToken, hostTokenFor("db-1"))).Token
	spend := func(name string, token secret.Secret) *httptest.ResponseRecorder {
		return w.stranger().do("POST", api.RouteHostEnroll, api.HostEnrollRequest{Name: name, Token: token})
	}
	refused(t, spend("db-2", token), api.KindDenied, "another machine")
	refused(t, spend("bastion-1", token), api.KindDenied, "another machine")
	refused(t, spend("db-1", api.NewToken(api.PrefixJoin)), api.KindDenied, "unknown")
	refused(t, spend("db-1", secret.Secret{}), api.KindInvalid, "token")
	for _, kind := range []string{api.MachineHost, api.MachineBastion} { // on the way of the other machines it is good for nothing
		refused(t, w.stranger().do("POST", api.RouteEnroll, api.EnrollRequest{Token: token, Name: "db-1", Kind: kind}), api.KindDenied, "another machine")
	}
	read[api.HostEnrolled](t, spend("db-1", token)) // refusals did not use it up
	refused(t, spend("db-1", token), api.KindDenied, "used")
	late := read[api.HostToken](t, alice.do("POST", api.RouteHostToken, hostTokenFor("db-3"))).Token
	w.clock.add(hostTokenLife)
	refused(t, spend("db-3", late), api.KindDenied, "expired")
}

// TestHostTakesNoOthersPlace: labels that one may enrol do not give the name of a host with others.
func TestHostTakesNoOthersPlace(t *testing.T) {
	w := newHostWorld(t)
	alice, prod := w.login(), state.HostTerms{Address: "prod-1:22", Logins: []string{"root"}, Labels: map[string]string{"env": "prod"}}
	early := read[api.HostToken](t, alice.do("POST", api.RouteHostToken, hostTokenFor("prod-1"))).Token // while nobody has the name
	w.write(func(ctx context.Context, tx store.Tx) error {
		return errors.Join(state.AddMachine(ctx, tx, state.Machine{ID: "mch_p", Name: "prod-1", Kind: api.MachineHost, Thumbprint: "p", Created: w.clock.now()}),
			state.PutHost(ctx, tx, state.EnrolledHost{Name: "prod-1", Machine: "mch_p", Terms: prod, Method: "token", Enrolled: w.clock.now()}))
	})
	refused(t, alice.do("POST", api.RouteHostToken, hostTokenFor("prod-1")), api.KindDenied, "enrollHost")
	refused(t, w.stranger().do("POST", api.RouteHostEnroll, api.HostEnrollRequest{Name: "prod-1", Token: early}), api.KindConflict, "meanwhile")
	if h, _ := w.s.host("prod-1"); h.machine != "mch_p" || h.Labels["env"] != "prod" {
		t.Errorf("inventory has %+v", h)
	}
	w.enrolledHost()
	w.enrolledHost() // in the place of one that may be enrolled
}

// TestHostTokenMeetsNewConfiguration spends a token of a name that was given to others since.
func TestHostTokenMeetsNewConfiguration(t *testing.T) {
	w := newHostWorld(t)
	token := read[api.HostToken](t, w.login().do("POST", api.RouteHostToken, hostTokenFor("db-1"))).Token
	h, _ := w.enrolledHost(func(r *api.HostTokenRequest) { r.Name = "db-2" })
	w.config.Bastions = append(w.config.Bastions, Bastion{Name: "db-1", Address: "192.0.2.8:22", Egress: []string{"192.0.2.8/32"}})
	w.config.Hosts = append(w.config.Hosts, Host{Name: "db-2", ID: "db-2", Address: "192.0.2.2:22", Logins: []string{"root"}})
	w.restart()
	refused(t, w.stranger().do("POST", api.RouteHostEnroll, api.HostEnrollRequest{Name: "db-1", Token: token}), api.KindConflict, "a bastion")
	key := sshca.MarshalLine(signer(t).PublicKey())
	refused(t, h.do("POST", api.RouteHostCertificate, api.HostCertificateRequest{PublicKey: key}), api.KindConflict, "by now")
	refused(t, h.do("GET", api.RouteHostBundle, nil), api.KindConflict, "by now")
	if found, _ := w.s.host("db-2"); found.Address != "192.0.2.2:22" {
		t.Errorf("the configuration does not win: %+v", found)
	}
}

// TestHostsRoutes: what a host holds opens nothing of a bastion's, an indexer's or a person's, and the other way round.
func TestHostsRoutes(t *testing.T) {
	w := newHostWorld(t)
	h, _ := w.enrolledHost()
	for _, e := range w.s.endpoints() {
		if e.auth == authNone || e.auth == authProof || e.auth == authHost {
			continue
		}
		rec := h.do(e.method, strings.NewReplacer("{id}", "1", "{path...}", "entries/000").Replace(e.route), nil)
		if p := problemOf(t, rec); p.Kind != api.KindDenied && p.Kind != api.KindUnauthenticated {
			t.Errorf("%s %s answers a host %d: %s", e.method, e.route, rec.Code, rec.Body)
		}
	}
	bastion := w.login(func(s *state.Session) {
		s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, "mch_1", "bastion-1"
	})
	for _, p := range []caller{bastion, w.login()} {
		refused(t, p.do("GET", api.RouteHostBundle, nil), api.KindDenied, "")
		refused(t, p.do("POST", api.RouteHostCertificate, api.HostCertificateRequest{PublicKey: "x"}), api.KindDenied, "")
	}
}

// TestBundleVersions: a version for each content, never a lower one, and a change answers the one who waits.
func TestBundleVersions(t *testing.T) {
	w := newHostWorld(t)
	h, v := w.enrolledHost()
	first := read[api.HostBundle](t, h.do("GET", api.RouteHostBundle, nil))
	again := read[api.HostBundle](t, h.do("GET", api.RouteHostBundle, nil))
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("another bundle without a change (-first +again):\n%s", diff)
	}
	ssh := state.SSHSession{ID: "ssh_abcdefghijkmnpqrstuv", Bearer: state.Bearer{LoginID: "ses_x", Issuer: issuer, Subject: "alice", Epoch: 1, Rev: 1}, Host: "db-1", Login: "deploy", Started: w.clock.now()}
	w.write(func(ctx context.Context, tx store.Tx) error { return state.AddSSH(ctx, tx, ssh) })
	w.clock.add(-time.Hour) // a clock that was set back gives no lower version
	got := make(chan *httptest.ResponseRecorder)
	r := h.request("GET", fmt.Sprintf("%s?%s=%d&%s=7&%s=3", api.RouteHostBundle, api.ParamVersion, first.Version, api.ParamTrust, api.ParamKRL), nil)
	go func() { got <- w.serve(r) }() // ends when the revocation is in the bundle
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.AddRevocation(ctx, tx, state.Revocation{Index: 1, EventID: "e", Issuer: issuer, Subject: "alice", Reason: "test", At: ssh.Started.Add(time.Second)})
	})
	w.s.hub.notify()
	second := read[api.HostBundle](t, <-got)
	if second.Version <= first.Version || len(second.Revoked) != 1 || second.Revoked[0] != ssh.ID {
		t.Errorf("after %d came %+v", first.Version, second)
	}
	var seen state.EnrolledHost
	err := w.db.Read(t.Context(), func(ctx context.Context, tx store.Querier) (err error) {
		seen, err = state.HostByMachine(ctx, tx, v.Machine.ID)
		return err
	})
	if err != nil || seen.Trust != 7 || seen.KRL != 3 || seen.Version != second.Version || seen.Seen.IsZero() {
		t.Errorf("the host was seen as %+v, %v", seen, err)
	}
	waits := h.request("GET", fmt.Sprintf("%s?%s=%d", api.RouteHostBundle, api.ParamVersion, second.Version), nil)
	go func() { got <- w.serve(waits) }() // ends when the next session has taken its place
	h = h.opened()
	w.s.hub.notify()
	refused(t, <-got, api.KindUnauthenticated, "ended") // which is no revocation of the host
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.BlockHost(ctx, tx, state.HostBlock{Host: "db-1", Index: 2, Reason: "test", At: w.clock.now()})
	})
	refused(t, h.do("GET", api.RouteHostBundle, nil), api.KindRevoked, "db-1")
	refused(t, h.do("POST", api.RouteHostCertificate, api.HostCertificateRequest{PublicKey: sshca.MarshalLine(signer(t).PublicKey())}), api.KindRevoked, "db-1")
	token := read[api.HostToken](t, w.login().do("POST", api.RouteHostToken, hostTokenFor("db-1"))).Token
	refused(t, w.stranger().do("POST", api.RouteHostEnroll, api.HostEnrollRequest{Name: "db-1", Token: token}), api.KindRevoked, "db-1")
}

// TestAccountsOfGroups: people of a host's groups have accounts, where the name is one and nobody else's.
func TestAccountsOfGroups(t *testing.T) {
	w := newHostWorld(t)
	h, _ := w.enrolledHost(func(r *api.HostTokenRequest) { r.Groups, r.Logins = []string{"engineering"}, []string{"root"} })
	for subject, email := range map[string]string{"bob": "Bob@example.com", "b1": "twin@example.com", "b2": "twin@other.example", "r": "root@example.com", "odd": "o'dd@example.com", "ses": "ses_x@example.com"} {
		w.login(func(s *state.Session) { s.Subject, s.Email, s.Name = subject, email, "Name "+subject })
	}
	w.login(func(s *state.Session) {
		s.Subject, s.Email, s.Groups = "carol", "carol@example.com", []string{"others"}
	})
	w.login(func(s *state.Session) { s.Subject, s.Email = "gone", "gone@example.com" })
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.BlockSubject(ctx, tx, issuer, "gone", "", "", "test")
	})
	b := read[api.HostBundle](t, h.do("GET", api.RouteHostBundle, nil))
	person := func(subject string) string { return personDigest(state.Member{Issuer: issuer, Subject: subject}) }
	want := []api.HostAccount{{Login: "alice", Person: person("alice"), Groups: []string{"engineering"}}, {Login: "bob", Person: person("bob"), Name: "Name bob", Groups: []string{"engineering"}}}
	if person("alice") == person("bob") {
		t.Error("two people of one digest")
	}
	if diff := cmp.Diff(want, b.Accounts); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	found, _ := w.s.host("db-1")
	for name, m := range map[string]state.Member{"no name": {Groups: []string{"engineering"}}, "no group": {Login: "bob", Groups: []string{"others"}}, "the host's own": {Login: "root", Groups: []string{"engineering"}}} {
		if diff := cmp.Diff([]string{"root"}, loginsFor(found, m)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestMembersReachHosts: a host that waits for news is told of who joins its group, and of who leaves it.
func TestMembersReachHosts(t *testing.T) {
	w := newHostWorld(t)
	h, _ := w.enrolledHost(func(r *api.HostTokenRequest) { r.Groups = []string{"engineering"} })
	have := read[api.HostBundle](t, h.do("GET", api.RouteHostBundle, nil))
	for _, step := range []struct {
		group string
		want  []string
	}{{"engineering", []string{"alice", "bob"}}, {"others", []string{"alice"}}} {
		r := h.request("GET", fmt.Sprintf("%s?%s=%d", api.RouteHostBundle, api.ParamVersion, have.Version), nil)
		answer := make(chan *httptest.ResponseRecorder)
		go func() { answer <- w.serve(r) }() // ends with the change
		w.clock.add(time.Second)
		w.login(func(s *state.Session) { s.Subject, s.Email, s.Groups = "bob", "bob@example.com", []string{step.group} })
		was := have.Version
		have = read[api.HostBundle](t, <-answer)
		got := []string{}
		for _, a := range have.Accounts {
			got = append(got, a.Login)
		}
		if diff := cmp.Diff(step.want, got); diff != "" || have.Version <= was {
			t.Errorf("bob in %s, version %d after %d (-want +got):\n%s", step.group, have.Version, was, diff)
		}
	}
}

// TestAccountNamesAreForGood: an account name stays that person's, who is away and whose e-mail changes; nobody else of that name
// gets into it, in the bundle, in the list of hosts or by a hop.
func TestAccountNamesAreForGood(t *testing.T) {
	w := newHostWorld(t)
	h, _ := w.enrolledHost(func(r *api.HostTokenRequest) { r.Groups, r.Logins = []string{"engineering"}, []string{"root"} })
	bastion := w.bastion()
	person := func(subject, email string) func(*state.Session) {
		return func(s *state.Session) { s.Subject, s.Email = subject, email }
	}
	accounts := func(want ...string) {
		t.Helper()
		got := []string{}
		for _, a := range read[api.HostBundle](t, h.opened().do("GET", api.RouteHostBundle, nil)).Accounts {
			if a.Login != "alice" { // who has made the token
				got = append(got, a.Login+" of "+a.Person)
			}
		}
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Errorf("accounts (-want +got):\n%s", diff)
		}
	}
	may := func(p caller, login string, want bool) {
		t.Helper()
		listed := false
		for _, v := range read[api.Hosts](t, p.do("GET", api.RouteHosts, nil)).Hosts {
			listed = listed || v.Name == "db-1" && slices.Contains(v.Logins, login)
		}
		key := signer(t).PublicKey()
		cert := read[api.Certificate](t, p.do("POST", api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(key)}))
		rec := bastion.do("POST", api.RouteHop, api.HopRequest{AccessSerial: cert.Serial, AccessKey: ssh.FingerprintSHA256(key), Host: "db-1", Login: login,
			Source: "192.0.2.7", HopKey: sshca.MarshalLine(signer(t).PublicKey()), Route: "direct"})
		if listed != want || (rec.Code == 200) != want {
			t.Errorf("%s as %s: listed %v, hop %d %s, want %v", p.session.Subject, login, listed, rec.Code, rec.Body, want)
		}
	}
	digest := func(subject string) string { return personDigest(state.Member{Issuer: issuer, Subject: subject}) }
	first := w.login(person("a1", "pat@example.com"))
	may(first, "pat", false) // nobody has made an account yet
	accounts("pat of " + digest("a1"))
	may(first, "pat", true)
	twin := w.login(person("a2", "pat@other.example"))
	may(twin, "pat", false)
	accounts("pat of " + digest("a1"))
	w.clock.add(12*time.Hour + memberFor + time.Minute)
	twin, bastion = w.login(person("a2", "pat@other.example")), w.bastion()
	may(twin, "pat", false)
	accounts()
	renamed := w.login(person("a1", "patricia@example.com"))
	may(renamed, "pat", true)
	may(renamed, "patricia", false)
	accounts("pat of " + digest("a1"))
	w.clock.add(time.Second)
	squatter := w.login(person("a2", "patricia@other.example")) // nobody's name
	accounts("pat of "+digest("a1"), "patricia of "+digest("a2"))
	may(squatter, "patricia", true)

	// An older login that has the group does not open what the host has shut by the newest.
	w.clock.add(time.Second)
	w.login(person("a1", "pat@example.com"), func(s *state.Session) { s.Groups = []string{"others"} })
	accounts("patricia of " + digest("a2"))
	may(renamed, "pat", false)
}

// TestForwardsToEnrolledHosts: the sshd of a host that has enrolled is one of the inventory's.
func TestForwardsToEnrolledHosts(t *testing.T) {
	w := newHostWorld(t)
	w.enrolledHost(func(r *api.HostTokenRequest) { r.Address = "10.9.8.7:2222" })
	from, _ := w.s.host("web-1")
	for _, place := range []struct {
		name string
		port uint32
		want bool
	}{{"db-1", 22, true}, {"db-1", 2222, true}, {"10.9.8.7", 2222, true}, {"10.9.8.7", 5432, false}, {"other", 22, false}} {
		if got := w.s.isSSH(place.name, place.port, from); got != place.want {
			t.Errorf("%s:%d is an sshd: %v", place.name, place.port, got)
		}
	}
	_ = w.db.Close()
	if !w.s.isSSH("other", 5432, from) {
		t.Error("without the inventory a forward is no sshd's")
	}
}

// TestHostsOfDeclaredNames: a name with a dot is under a domain of the configuration, or the host that has it is no host:
// everybody's ssh_config would lead that name to it.
func TestHostsOfDeclaredNames(t *testing.T) {
	w := newHostWorld(t, func(c *Config) { c.HostDomains = []string{"corp.example", "internal"} })
	for _, name := range []string{"db-1", "db-2.corp.example", "db-3.prod.corp.example", "db-4.internal"} {
		_, v := w.enrolledHost(func(r *api.HostTokenRequest) { r.Name, r.Address = name, "10.0.0.1:22" })
		if v.HostID != name {
			t.Errorf("%s enrolled as %q", name, v.HostID)
		}
	}
	h, _ := w.enrolledHost(func(r *api.HostTokenRequest) { r.Name, r.Address = "db-5.internal", "10.0.0.1:22" })
	w.s.HostDomains = []string{"corp.example"} // as a broker that starts without the domain
	refused(t, h.do("GET", api.RouteHostBundle, nil), api.KindConflict, "host_domains")
	var names []string
	for _, h := range w.s.allHosts() {
		names = append(names, h.Name)
	}
	if diff := cmp.Diff([]string{"web-1", "db-1", "db-2.corp.example", "db-3.prod.corp.example"}, names); diff != "" {
		t.Errorf("inventory (-want +got):\n%s", diff)
	}
	if _, ok := w.s.host("db-5.internal"); ok {
		t.Error("a host of an undeclared name is found")
	}
}

func TestHostNamesAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"a wildcard as a domain":   func(c *Config) { c.HostDomains = []string{"*.corp.example"} },
		"a domain with a dot more": func(c *Config) { c.HostDomains = []string{".corp.example"} },
		"the alias of bastions":    func(c *Config) { c.Hosts = append(c.Hosts, Host{Name: "sega-bastion", ID: "x"}) },
		"a prefix with a dot": func(c *Config) {
			c.Instances = Instances{Certificates: []*x509.Certificate{{}}, Rules: []InstanceRule{{Account: "1", Region: "r", Port: 22, Prefix: "web.corp.example"}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			change(&w.config)
			if _, err := New(t.Context(), w.config); err == nil || !strings.Contains(err.Error(), "broker: ") {
				t.Errorf("got %v", err)
			}
		})
	}
}
