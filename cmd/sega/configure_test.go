package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/keychain/secret"
	"sega/sshca/sshtest"
)

// testCert is a certificate that ends at a second since 1970.
func testCert(t testing.TB, key ssh.PublicKey, before int64) *ssh.Certificate {
	t.Helper()
	ca, _ := testKey(t)
	signer, err := ssh.NewSignerFromKey(ca)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: key, CertType: ssh.UserCert, KeyId: "ses_1 alice", ValidPrincipals: []string{"ses_1"}, ValidBefore: uint64(before)}
	if err := cert.SignCert(nonce{}, signer); err != nil {
		t.Fatal(err)
	}
	return cert
}

type nonce struct{}

func (nonce) Read(p []byte) (int, error) { return len(p), nil }

func TestFresh(t *testing.T) {
	_, key := testKey(t)
	_, otherKey := testKey(t)
	path := filepath.Join(t.TempDir(), "id-cert.pub")
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "id.pub"), ssh.MarshalAuthorizedKey(key), 0o600); err != nil {
		t.Fatal(err)
	}
	left := func(d time.Duration) []byte {
		return ssh.MarshalAuthorizedKey(testCert(t, key, noon.Add(d).Unix()))
	}
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"none":             {nil, false},
		"fresh":            {left(sshLeft + time.Second), true},
		"about to end":     {left(sshLeft), false},
		"ended":            {left(-time.Hour), false},
		"a key alone":      {ssh.MarshalAuthorizedKey(key), false},
		"junk":             {[]byte("junk"), false},
		"without an end":   {ssh.MarshalAuthorizedKey(testCert(t, key, -1)), false},
		"of another key":   {ssh.MarshalAuthorizedKey(testCert(t, otherKey, noon.Add(time.Hour).Unix())), false},
		"of the year 2286": {ssh.MarshalAuthorizedKey(testCert(t, key, math.MaxInt32*4)), true},
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(path)
			if c.data != nil {
				if err := os.WriteFile(path, c.data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := fresh(path, noon); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}

// TestConfigThroughSSH has the real client read the block: paths come out as they are, and the
// renewing command runs with them, whatever is in their names.
func TestConfigThroughSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Fatal("the OpenSSH client is needed")
	}
	for _, name := range []string{"plain", "with space", "per%cent", "%h%%d", "dollar$HOME", "semi;colon", "hash#tag", "star*", "back\\slash", "~tilde", "ünïcode"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), name)
			if err := os.MkdirAll(filepath.Join(dir, "ssh"), 0o700); err != nil {
				t.Fatal(err)
			}
			self, witness := filepath.Join(dir, "sega"), filepath.Join(dir, "witness")
			if err := os.WriteFile(self, []byte("#!/bin/sh\nprintf '%s|%s' \"$SEGA_HOME\" \"$*\" >\"$SEGA_HOME/witness\"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			config := filepath.Join(t.TempDir(), "config")
			renew := renewCommand(dir, self)
			// SetEnv has been read for years as OpenSSH 9.9 and later read the command of Match.
			text := fmt.Sprintf("SetEnv \"RENEW=%s\"\nMatch originalhost web-1 exec \"%s\"\n    HostName 127.0.0.1\n%sMatch all\n", renew, renew, sshCommon(dir, freshIdentity(dir, filepath.Join(dir, "agent", "ssh"))))
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c := exec.Command("ssh", "-G", "-F", config, "web-1")
			c.Env = append(os.Environ(), "SHELL=/bin/sh")
			out, err := c.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, text)
			}
			if got, err := os.ReadFile(witness); err != nil || string(got) != dir+"|ssh --renew" {
				t.Errorf("the renewing command ran with %q, %v", got, err)
			}
			lines := strings.Split(string(out), "\n")
			for _, option := range []string{"setenv RENEW=" + renew, "hostname 127.0.0.1", "stricthostkeychecking true", "globalknownhostsfile /dev/null", "identitiesonly no", "updatehostkeys false"} {
				if !contains(lines, option) {
					t.Errorf("no %q in\n%s", option, out)
				}
			}
			unescaped := strings.NewReplacer("%%", "%")
			for option, file := range map[string]string{"identityfile": "ssh/id", "certificatefile": "ssh/id-cert.pub", "userknownhostsfile": "ssh/known_hosts", "identityagent": "agent/ssh"} {
				want := option + " " + filepath.Join(dir, file)
				if !contains(lines, want) && !contains(strings.Split(unescaped.Replace(string(out)), "\n"), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

// TestNameable: what the block could not name is refused, and not written as something else.
func TestNameable(t *testing.T) {
	for path, want := range map[string][2]bool{ // nameable, commandable
		"/home/me/.config/sega": {true, true}, `C:\Users\me\sega`: {true, true}, "/$HOME": {true, true}, "/a b/%h": {true, true}, "/it's": {true, false},
		`/quo"te`: {}, "/a\nProxyCommand x": {}, "/a\rb": {}, "/${HOME}": {}, `/two\\slashes`: {}, `/slash\`: {}, `/it\'s`: {},
	} {
		if got := [2]bool{nameable("/bin/sega", path) == nil, commandable("/bin/sega", path) == nil}; got != want {
			t.Errorf("%q: %v, want %v", path, got, want)
		}
	}
}

func contains(lines []string, want string) bool {
	for _, l := range lines {
		if l == want {
			return true
		}
	}
	return false
}

func TestPlainName(t *testing.T) {
	for _, s := range []string{"web-1", "web-1.prod.example", "deploy", "a_b", "ünïcode", "10.0.0.1", "a"} {
		if !plainName(s) {
			t.Errorf("%q is refused", s)
		}
	}
	for _, s := range []string{"", "-oProxyCommand=x", "-", "a b", "a\tb", "a\nb", "web*", "web?", "!web", "a,b", "user@host", "a+b", "a%b", "a/b", "..//x", `a\b`, `a"b`, "a'b", "a;b", "host:22", "[::1]", "a=b", "#a", "a\x00", "a$(id)", "a`id`", "a&b", "a|b", "a>b"} {
		if plainName(s) {
			t.Errorf("%q passes", s)
		}
	}
}

func TestLabels(t *testing.T) {
	for want, m := range map[string]map[string]string{"": nil, "a=1": {"a": "1"}, "a=1 b=2 c=": {"c": "", "b": "2", "a": "1"}} {
		if got := labels(m); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func testKey(t testing.TB) (ed25519.PrivateKey, ssh.PublicKey) {
	t.Helper()
	private := sshtest.Key(t)
	return private, sshtest.Public(t, private)
}

// TestCertificateOfAnEndedSession: where the broker takes the session for none it is renewed in between, which
// needs the stored secrets.
func TestCertificateOfAnEndedSession(t *testing.T) {
	ca := newAuthority(t, "Corp CA")
	origin := ca.serve(t, loopback(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(api.Errorf(api.KindUnauthenticated, "the session has ended"))
	}))
	a, _, _ := testApp(t, "SEGA_CA_FILE="+ca.file)
	key, err := dpop.GenerateKey()
	must(t, err)
	kept, err := saved{Origin: origin, Key: key, Refresh: secret.FromString("r"), Issuer: "https://" + refusing(t), ClientID: "sega",
		Session: api.Session{Token: secret.FromString("t"), LoginID: "ses_1", Expires: noon.Add(time.Hour), NotAfter: noon.Add(8 * time.Hour)}}.seal()
	must(t, err)
	store, err := a.secrets()
	must(t, err)
	must(t, store.Put(itemSession, kept))
	ended := make(chan error, 1)
	go func() { ended <- a.renewSSHFiles(t.Context(), sshOptions{}) }()
	select {
	case err := <-ended:
		if code := exitCode(err); code != exitLogin && code != exitUnreachable {
			t.Errorf("exit code %d: %v", code, err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for itself")
	}
}

// TestRenewalAfterALogout: a session that another process has ended meanwhile is no damage.
func TestRenewalAfterALogout(t *testing.T) {
	s := fakeBroker(t, api.Empty{})
	s.kept.Refresh = secret.FromString("r")
	if err := s.renew(t.Context()); kindOf(err) != kindLogin {
		t.Errorf("%s: %v", kindOf(err), err)
	}
}

// TestRefusedOnceBySSH: on the way to a host two processes of ssh read the block, and a renewal that fails is said by one.
func TestRefusedOnceBySSH(t *testing.T) {
	s := fakeBroker(t, api.Hosts{Hosts: []api.Host{{Name: "web-1", Logins: []string{"deploy"}, Allowed: true}}})
	s.pin(t, api.Configuration{Bastion: closedAddress(t), BastionName: "bastion-1", FrontCAs: []string{"ssh-ed25519 AAAA"}})
	text, err := s.sshConfig(t.Context(), ownKeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	refusing, config := filepath.Join(dir, "sega"), filepath.Join(dir, "config")
	if err := os.WriteFile(refusing, []byte("#!/bin/sh\ncase \"$*\" in *--quiet*) ;; *) echo sega says no >&2 ;; esac\nexit 6\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(text, self, refusing)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"web-1", "sega-bastion", "deploy%web-1@sega-bastion"} {
		c := exec.Command("ssh", "-F", config, host, "true")
		c.Env = append(os.Environ(), "SHELL=/bin/sh")
		out, err := c.CombinedOutput()
		if n := strings.Count(string(out), "sega says no\n"); err == nil || n != 1 {
			t.Errorf("ssh %s says it %d times, %v:\n%s", host, n, err, out)
		}
	}
}

// TestQuietRenewal: a renewal that is quiet fails as any does, and says nothing.
func TestQuietRenewal(t *testing.T) {
	revoked := api.Errorf(api.KindRevoked, "access was revoked")
	for name, c := range map[string]struct {
		quiet bool
		err   error
		code  int
		said  bool
	}{"aloud": {false, revoked, exitRevoked, true}, "quiet": {true, revoked, exitRevoked, false}, "good": {true, nil, 0, false}} {
		err := sshOptions{quiet: c.quiet}.heard(c.err)
		var child childError
		if exitCode(err) != c.code || (err != nil && !errors.As(err, &child)) != c.said {
			t.Errorf("%s: %v, exit code %d", name, err, exitCode(err))
		}
	}
}
