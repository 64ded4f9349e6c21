package bastion

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

const keyID = "key_abcdefghijkmnpqr2345"

// keyring is a person's own key file, made by ssh-keygen, in the way of ssh.
type keyring struct {
	path   string
	public ssh.PublicKey
}

// dummyToken is OpenSSH's stand-in for a FIDO2 authenticator.
func dummyToken(t testing.TB) string {
	t.Helper()
	const path = "/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so"
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("skipped: %v (Debian: openssh-tests)", err)
	}
	return path
}

func keygen(t testing.TB, args ...string) keyring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id")
	cmd := exec.Command(requireTool(t, "ssh-keygen"), append([]string{"-q", "-N", "", "-f", path}, args...)...)
	if strings.Contains(strings.Join(args, " "), "-sk") {
		cmd.Env = append(os.Environ(), "SSH_SK_PROVIDER="+dummyToken(t))
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %v: %v\n%s", args, err, out)
	}
	line, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		t.Fatal(err)
	}
	return keyring{path, public}
}

// opensshBy is openssh with a plain key and no certificate.
func (w *world) opensshBy(t testing.TB, k keyring) *openssh {
	t.Helper()
	o := w.openssh(t, w.control.credential(t))
	host, port, err := net.SplitHostPort(w.addr)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(o.dir, "config"), fmt.Sprintf(`
Host bastion
  HostName %s
  Port %s
  HostKeyAlias %s
Host *
  IdentityFile %s
  IdentitiesOnly yes
  IdentityAgent none
  SecurityKeyProvider %s
  UserKnownHostsFile %s/known
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
`, host, port, bastionName, k.path, "/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so", o.dir))
	return o
}

func (w *world) knows(t testing.TB, key ssh.PublicKey, id string) {
	t.Helper()
	w.control.register(key, id)
	eventually(t, "the set of keys", func() bool { return w.b.feed.keyID(ssh.FingerprintSHA256(key)) == id })
}

// TestRegisteredKeysLogIn: OpenSSH with keys of its own and no certificate, by every way; the broker is told the key.
func TestRegisteredKeysLogIn(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	for name, args := range map[string][]string{
		"ed25519": {"-t", "ed25519"}, "ecdsa": {"-t", "ecdsa"}, "rsa": {"-t", "rsa", "-b", "3072"}, "FIDO2 ed25519": {"-t", "ed25519-sk"}, "FIDO2 ecdsa": {"-t", "ecdsa-sk"},
	} {
		t.Run(name, func(t *testing.T) {
			k := keygen(t, args...)
			w.knows(t, k.public, keyID)
			o := w.opensshBy(t, k)
			ways := map[string][]string{"percent": forms(currentLogin(t))["percent"]}
			if name == "FIDO2 ed25519" {
				ways = forms(currentLogin(t))
			}
			for form, target := range ways {
				if got := o.run(nil, append(target, "echo", "in")...); got.code != 0 || got.stdout != "in\n" {
					t.Errorf("%s: %+v", form, got)
				}
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, h := range f.hops[len(f.hops)-len(ways):] {
				if h.AccessSerial != 0 || h.AccessKey != ssh.FingerprintSHA256(k.public) {
					t.Errorf("the broker was asked for %+v", h)
				}
			}
		})
	}
}

// TestPlainKeysAreRefused: what is not registered, or does not prove what it must, gets no further than its signature,
// and the broker hears of it only as a refusal.
func TestPlainKeysAreRefused(t *testing.T) {
	f := newFakeControl(t)
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	registered := newSigner(t)
	untouched := keygen(t, "-t", "ed25519-sk", "-O", "no-touch-required")
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	short, err := ssh.NewSignerFromKey(old)
	if err != nil {
		t.Fatal(err)
	}
	w.knows(t, registered.PublicKey(), keyID)
	w.knows(t, short.PublicKey(), keyID)
	for name, signer := range map[string]ssh.Signer{
		"not registered":               newSigner(t),
		"registered, RSA of 2048 bits": short,
		"its public half alone":        certSigner{newSigner(t), registered.PublicKey()},
	} {
		if _, err := w.dial("root%web-1", signer); err == nil {
			t.Errorf("%s: got in", name)
		}
	}
	w.knows(t, untouched.public, keyID)
	if got := w.opensshBy(t, untouched).run(nil, "root%web-1@bastion", "true"); got.code != 255 {
		t.Errorf("a FIDO2 key that nobody touched: %+v", got)
	}
	w.control.register(registered.PublicKey(), "")
	eventually(t, "a key that is gone", func() bool { return w.b.feed.keyID(ssh.FingerprintSHA256(registered.PublicKey())) == "" })
	if _, err := w.dial("root%web-1", registered); err == nil {
		t.Error("a key that was removed got in")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.hops) != 0 || len(h.logins()) != 0 {
		t.Errorf("the broker was asked for %+v, the host reached as %v", f.hops, h.logins())
	}
}

// asked is a key that says whether the server wanted its signature.
type asked struct {
	ssh.Signer
	wanted atomic.Bool
}

func (a *asked) Sign(io.Reader, []byte) (*ssh.Signature, error) {
	a.wanted.Store(true)
	return nil, errors.New("the private half is somewhere else")
}

// TestRegistrationIsNotShown: who holds public halves alone cannot tell which of them are registered, nor without any
// certificate or key that a key is registered at all but by whether plain keys may try.
func TestRegistrationIsNotShown(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f)
	probe := func(key ssh.Signer) bool {
		a := &asked{Signer: key}
		if _, err := w.dial("root%web-1", a); err == nil {
			t.Error("got in")
		}
		return a.wanted.Load()
	}
	registered, other := newSigner(t), newSigner(t)
	if probe(registered) || probe(other) {
		t.Error("no key is registered, and a plain key may sign")
	}
	w.knows(t, registered.PublicKey(), keyID)
	if !probe(registered) || !probe(other) {
		t.Error("a public key shows whether it is registered")
	}
}

// TestInnerKeyEqualsOuter (R7): inside ssh -J the very same key, or the very same certificate.
func TestInnerKeyEqualsOuter(t *testing.T) {
	f := newFakeControl(t)
	h := f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	mine, others, cert := newSigner(t), newSigner(t), f.credential(t)
	w.knows(t, mine.PublicKey(), keyID)
	w.knows(t, others.PublicKey(), "key_zzzzzzzzzzzzzzzz2345")
	for name, tt := range map[string]struct {
		outer, inner ssh.Signer
		in           bool
	}{
		"the same key":                    {mine, mine, true},
		"another registered key":          {mine, others, false},
		"a certificate inside a key":      {mine, cert.signer, false},
		"a key inside a certificate":      {cert.signer, mine, false},
		"the plain key of a certificate":  {cert.signer, mustSigner(t, cert.key), false},
		"a certificate of the plain key":  {mustSigner(t, cert.key), cert.signer, false},
		"the same certificate, as before": {cert.signer, cert.signer, true},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(h.logins())
			outer, err := w.dial("ada", tt.outer)
			if err != nil {
				if tt.in {
					t.Fatal(err)
				}
				return
			}
			defer outer.Close()
			conn, err := outer.Dial("tcp", "web-1:22")
			if err != nil {
				t.Fatal(err)
			}
			inner, _, _, err := ssh.NewClientConn(conn, "web-1:22", w.dialConfig("root", tt.inner))
			if (err == nil) != tt.in {
				t.Errorf("got %v", err)
			}
			if err == nil {
				_ = inner.Close()
			} else if len(h.logins()) != before {
				t.Error("the host was reached")
			}
		})
	}
}

func mustSigner(t testing.TB, key any) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRemovedKeyIsCut: what a key has opened ends with it, within the second, direct or through ssh -J; what another
// key of the person has opened goes on.
func TestRemovedKeyIsCut(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	gone, stays := newSigner(t), newSigner(t)
	w.knows(t, gone.PublicKey(), keyID)
	w.knows(t, stays.PublicKey(), "key_zzzzzzzzzzzzzzzz2345")
	direct, other, outer := w.mustDial(t, "root%web-1", gone), w.mustDial(t, "root%web-1", stays), w.mustDial(t, "ada", gone)
	conn, err := outer.Dial("tcp", "web-1:22")
	if err != nil {
		t.Fatal(err)
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, "web-1:22", w.dialConfig("root", gone))
	if err != nil {
		t.Fatal(err)
	}
	inner := ssh.NewClient(c, chans, reqs)
	for _, c := range []*ssh.Client{direct, other, inner} {
		if err := newSession(t, c).Start("cat"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "three sessions", func() bool { return len(f.find(kindStart)) == 3 })
	began := time.Now()
	f.set(func() {
		f.revoked = append(f.revoked, api.Revocation{Index: 1, EventID: "evt_1", LoginID: keyID, Reason: "removed"})
	})
	eventually(t, "the acknowledgement", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.acks) > 0
	})
	t.Logf("cut after %v", time.Since(began)) // the hosts' side; the person is told afterwards
	for name, c := range map[string]*ssh.Client{"direct": direct, "inner": inner, "outer": outer} {
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Errorf("%s lives on", name)
		}
	}
	f.mu.Lock()
	acks := f.acks
	f.mu.Unlock()
	if len(acks) != 1 || acks[0].Closed != 2 {
		t.Errorf("acknowledged %+v, want two sessions", acks)
	}
	if _, err := other.NewSession(); err != nil {
		t.Errorf("another key's session: %v", err)
	}
}

// TestStrangersWithPlainKeys: thousands of keys that are not registered cost the broker a few events and no question.
func TestStrangersWithPlainKeys(t *testing.T) {
	keys := 200
	if os.Getenv("SEGA_SOAK") == "1" {
		keys = 10_000
	}
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f, func(c *Config) { c.RefuseWindow = time.Hour })
	friend := newSigner(t)
	w.knows(t, friend.PublicKey(), keyID)
	fronts := len(f.fronts)
	const each = maxAuthTries - 1
	for done := 0; done < keys; done += each {
		var signers []ssh.Signer
		for range each {
			signers = append(signers, newSigner(t))
		}
		if _, err := w.dial("root%web-1", signers...); err == nil {
			t.Fatal("a stranger got in")
		}
	}
	c, err := w.dial("root%web-1", friend)
	if err != nil {
		t.Fatalf("who has a registered key: %v", err)
	}
	eventually(t, "a session", func() bool { return len(f.find(kindStart)) == 1 })
	_ = c.Close()
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	refused := 0
	for _, r := range f.reports {
		if r.Kind == kindRefuse {
			refused++
		}
	}
	if f.strangers != 0 || len(f.hops) != 1 || len(f.fronts) != fronts || refused > 2 {
		t.Errorf("%d keys: %d questions about strangers, %d hops, %d masks, %d reports", keys, f.strangers, len(f.hops), len(f.fronts)-fronts, refused)
	}
}

// TestKeySets: a set is in force when it is whole, and only one that has a beginning.
func TestKeySets(t *testing.T) {
	var f feed
	set := func(first, last bool, names ...string) error {
		s := api.FeedKeySet{First: first, Last: last}
		for _, n := range names {
			s.Keys = append(s.Keys, api.FeedKey{ID: "key_" + n, Fingerprint: n})
		}
		return f.setKeys(s)
	}
	if err := set(false, true, "a"); !errors.Is(err, errKeySet) || f.anyKeys() {
		t.Errorf("without a beginning: %v", err)
	}
	steps := []struct {
		first, last bool
		names       []string
		has         string
	}{
		{true, false, []string{"a"}, ""}, {false, false, []string{"b"}, ""}, {false, true, []string{"c"}, "abc"},
		{true, false, []string{"x"}, "abc"}, {true, true, []string{"y"}, "y"}, {true, true, nil, ""},
	}
	for i, s := range steps {
		if err := set(s.first, s.last, s.names...); err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"a", "b", "c", "x", "y"} {
			if got, want := f.keyID(n) == "key_"+n, strings.Contains(s.has, n); got != want {
				t.Errorf("step %d: %s is registered: %v", i, n, got)
			}
		}
	}
	if f.anyKeys() {
		t.Error("the empty set has keys")
	}
}

// TestVerifiedCertificateLogsIn: verify-required of a FIDO2 key is for the broker to have checked; no-touch-required is refused.
func TestVerifiedCertificateLogsIn(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	for name, tt := range map[string]struct {
		args   []string
		change func(*ssh.Certificate)
		code   int
	}{
		"verify-required":                   {[]string{"-t", "ed25519-sk"}, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"verify-required": ""} }, 0},
		"touched":                           {[]string{"-t", "ecdsa-sk"}, func(*ssh.Certificate) {}, 0},
		"not touched":                       {[]string{"-t", "ed25519-sk", "-O", "no-touch-required"}, func(*ssh.Certificate) {}, 255},
		"not touched, and the CA allows it": {[]string{"-t", "ed25519-sk", "-O", "no-touch-required"}, func(c *ssh.Certificate) { c.Extensions = map[string]string{"no-touch-required": ""} }, 255},
	} {
		t.Run(name, func(t *testing.T) {
			k := keygen(t, tt.args...)
			cert := *f.credential(t).cert
			cert.Key = k.public
			tt.change(&cert)
			if err := cert.SignCert(rand.Reader, f.access); err != nil {
				t.Fatal(err)
			}
			writeFile(t, k.path+"-cert.pub", sshca.MarshalLine(&cert)+"\n")
			if got := w.opensshBy(t, k).run(nil, currentLogin(t)+"%web-1@bastion", "true"); got.code != tt.code {
				t.Errorf("%+v", got)
			}
		})
	}
	if !strings.Contains(fmt.Sprint(f.find(kindRefuse)), sshca.ErrExtension.Error()) {
		t.Error("the certificate with no-touch-required was not reported")
	}
}
