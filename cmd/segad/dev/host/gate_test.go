//go:build unix

package host

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

// What OpenSSH's client meets when it shows a certificate that does not open this host.
func TestWhoIsRefused(t *testing.T) {
	w := start(t)
	_, foreign := newKey(t)
	tests := map[string]struct {
		change func(*sshca.HopParams)
		ca     ssh.Signer
		login  string
		reason string // in the server's log; empty: it opens
	}{
		"nobody":          {func(*sshca.HopParams) {}, w.hop, w.login, ""},
		"another login":   {func(p *sshca.HopParams) { p.Login = "deploy" }, w.hop, "deploy", errAccount.Error()},
		"another account": {func(p *sshca.HopParams) { p.Login = "deploy" }, w.hop, w.login, "principal"},
		"another host":    {func(p *sshca.HopParams) { p.HostID = "host-b" }, w.hop, w.login, "principal"},
		"a foreign CA":    {func(*sshca.HopParams) {}, foreign, w.login, errCA.Error()},
		"the host CA":     {func(*sshca.HopParams) {}, w.host, w.login, errCA.Error()},
		"expired":         {func(p *sshca.HopParams) { p.ValidBefore = time.Now().Add(-time.Second) }, w.hop, w.login, "expired"},
		"not yet valid": {func(p *sshca.HopParams) {
			p.ValidAfter, p.ValidBefore = time.Now().Add(time.Minute), time.Now().Add(2*time.Minute)
		}, w.hop, w.login, "not yet valid"},
		"another address": {func(p *sshca.HopParams) { p.SourceAddresses = []string{"192.0.2.0/24", "::1"} }, w.hop, w.login, errSource.Error()},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := w.hopParams()
			tt.change(&p)
			cmd := w.ssh(t, w.options(t, issue(t, p, tt.ca)), "echo in")
			cmd.Args[len(cmd.Args)-2] = tt.login + "@127.0.0.1"
			before := len(w.log.String())
			stdout, stderr, code := run(t, cmd, nil)
			log := w.log.String()[before:]
			if tt.reason == "" {
				if stdout != "in\n" || code != 0 {
					t.Errorf("%q, %q, %d\n%s", stdout, stderr, code, log)
				}
				return
			}
			if stdout != "" || code != 255 || !strings.Contains(stderr, "Permission denied (publickey)") || !strings.Contains(log, tt.reason) {
				t.Errorf("%q, %q, %d\n%s", stdout, stderr, code, log)
			}
		})
	}
}

// A certificate without its key, a plain key, and no key at all.
func TestCertificateNeedsItsKey(t *testing.T) {
	w := start(t)
	cert := issue(t, w.hopParams(), w.hop)
	_, other := newKey(t)
	for name, auth := range map[string]ssh.AuthMethod{
		"another key": ssh.PublicKeys(stolen{cert, other}),
		"plain key":   ssh.PublicKeys(w.signer),
		"password":    ssh.Password("x"),
	} {
		t.Run(name, func(t *testing.T) {
			client, err := ssh.Dial("tcp", w.addr.String(), &ssh.ClientConfig{User: w.login, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: anyHost, Timeout: patience})
			if err == nil {
				client.Close()
				t.Fatal("opens")
			}
		})
	}
}

func anyHost(string, net.Addr, ssh.PublicKey) error { return nil }

// stolen shows a certificate and signs with a key that is not its own.
type stolen struct {
	cert *ssh.Certificate
	ssh.Signer
}

func (s stolen) PublicKey() ssh.PublicKey { return s.cert }

func (w *world) gate() gate {
	return gate{cas: sshca.Bundle{w.hop.PublicKey()}, login: w.login, principal: w.login + "@" + hostID, now: time.Now}
}

// Certificates that sshca would not make: of a broken broker, or of somebody with the CA's key.
func TestForgedCertificates(t *testing.T) {
	w := newWorld(t)
	principal := w.login + "@" + hostID
	_, foreign := newKey(t)
	tests := map[string]struct {
		change func(*ssh.Certificate)
		opens  bool
	}{
		"unchanged":                 {func(*ssh.Certificate) {}, true},
		"no principals":             {func(c *ssh.Certificate) { c.ValidPrincipals = nil }, false},
		"an empty principal":        {func(c *ssh.Certificate) { c.ValidPrincipals = []string{""} }, false},
		"a bare login":              {func(c *ssh.Certificate) { c.ValidPrincipals = []string{w.login} }, false},
		"two principals":            {func(c *ssh.Certificate) { c.ValidPrincipals = []string{principal, "deploy@host-b"} }, false},
		"two principals in one":     {func(c *ssh.Certificate) { c.ValidPrincipals = []string{principal + ",x@y"} }, false},
		"a wildcard":                {func(c *ssh.Certificate) { c.ValidPrincipals = []string{w.login + "@*"} }, false},
		"upper case":                {func(c *ssh.Certificate) { c.ValidPrincipals = []string{strings.ToUpper(principal)} }, false},
		"a host's certificate":      {func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, false},
		"of no type":                {func(c *ssh.Certificate) { c.CertType = 0 }, false},
		"no source address":         {func(c *ssh.Certificate) { c.CriticalOptions = nil }, false},
		"an empty source address":   {func(c *ssh.Certificate) { c.CriticalOptions[optSource] = "" }, false},
		"any source address":        {func(c *ssh.Certificate) { c.CriticalOptions[optSource] = "0.0.0.0/0" }, false},
		"unreadable source address": {func(c *ssh.Certificate) { c.CriticalOptions[optSource] = "localhost" }, false},
		"a command forced":          {func(c *ssh.Certificate) { c.CriticalOptions["force-command"] = "true" }, false},
		"an unknown option":         {func(c *ssh.Certificate) { c.CriticalOptions["x@corp.example"] = "" }, false},
		"an unknown extension":      {func(c *ssh.Certificate) { c.Extensions["x@corp.example"] = "" }, false},
		"valid for ever":            {func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = 0, ssh.CertTimeInfinity }, false},
		"valid for a day":           {func(c *ssh.Certificate) { c.ValidBefore = c.ValidAfter + 86400 }, false},
		"of serial 0":               {func(c *ssh.Certificate) { c.Serial = 0 }, false},
		"without a session":         {func(c *ssh.Certificate) { c.KeyId = "jane" }, false},
		"for a weak key":            {func(c *ssh.Certificate) { c.Key = weakKey(t) }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := issue(t, w.hopParams(), w.hop)
			tt.change(c)
			if err := c.SignCert(rand.Reader, w.hop); err != nil {
				t.Fatal(err)
			}
			parsed, err := ssh.ParsePublicKey(c.Marshal())
			if err == nil {
				_, err = w.gate().check(w.login, parsed, netip.MustParseAddr("127.0.0.1"))
			}
			if (err == nil) != tt.opens {
				t.Errorf("opens: %v (%v)", err == nil, err)
			}
		})
	}
	good := issue(t, w.hopParams(), w.hop)
	for name, break_ := range map[string]func(*ssh.Certificate){
		"changed afterwards":   func(c *ssh.Certificate) { c.KeyId = "ssh_abcdefghijkmnpqrstuv eve@corp.example" },
		"without a signature":  func(c *ssh.Certificate) { c.Signature = nil },
		"without an authority": func(c *ssh.Certificate) { c.SignatureKey = nil },
		"a borrowed authority": func(c *ssh.Certificate) { _ = c.SignCert(rand.Reader, foreign); c.SignatureKey = w.hop.PublicKey() },
		"a nested authority":   func(c *ssh.Certificate) { c.SignatureKey = good },
		"another algorithm":    func(c *ssh.Certificate) { c.Signature = &ssh.Signature{Format: ssh.KeyAlgoRSA, Blob: c.Signature.Blob} },
	} {
		t.Run(name, func(t *testing.T) {
			c := issue(t, w.hopParams(), w.hop)
			break_(c)
			if _, err := w.gate().check(w.login, c, netip.MustParseAddr("127.0.0.1")); err == nil {
				t.Error("opens")
			}
		})
	}
}

func rsaSigner(t *testing.T, bits int) ssh.AlgorithmSigner {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s.(ssh.AlgorithmSigner)
}

func weakKey(t *testing.T) ssh.PublicKey { return rsaSigner(t, 2048).PublicKey() }

// An RSA authority's SHA-1 signature verifies, and ssh.CertChecker takes it.
func TestSHA1IsRefused(t *testing.T) {
	w := newWorld(t)
	ca := rsaSigner(t, 3072)
	g := w.gate()
	g.cas = sshca.Bundle{ca.PublicKey()}
	for algorithm, opens := range map[string]bool{ssh.KeyAlgoRSA: false, ssh.KeyAlgoRSASHA256: true, ssh.KeyAlgoRSASHA512: true} {
		t.Run(algorithm, func(t *testing.T) {
			only, err := ssh.NewSignerWithAlgorithms(ca, []string{algorithm})
			if err != nil {
				t.Fatal(err)
			}
			c := issue(t, w.hopParams(), w.hop)
			if err := c.SignCert(rand.Reader, only); err != nil {
				t.Fatal(err)
			}
			if _, err := g.check(w.login, c, netip.MustParseAddr("127.0.0.1")); (err == nil) != opens || !opens && !errors.Is(err, errAlgorithm) {
				t.Errorf("opens: %v (%v)", err == nil, err)
			}
		})
	}
}

func TestGateReadsTheClock(t *testing.T) {
	w := newWorld(t)
	g, c := w.gate(), issue(t, w.hopParams(), w.hop)
	for offset, opens := range map[time.Duration]bool{-2 * sshca.Backdate: false, 0: true, sshca.HopLifetime + time.Second: false} {
		g.now = func() time.Time { return time.Now().Add(offset) }
		if _, err := g.check(w.login, c, netip.MustParseAddr("::ffff:127.0.0.1")); (err == nil) != opens {
			t.Errorf("at %s: %v", offset, err)
		}
	}
}

func TestAllows(t *testing.T) {
	for _, tt := range []struct {
		list, source string
		want         bool
	}{
		{"127.0.0.1", "127.0.0.1", true}, {"127.0.0.1", "::ffff:127.0.0.1", true}, {"127.0.0.2", "127.0.0.1", false},
		{"10.0.0.0/8,::1", "::1", true}, {"10.0.0.0/8", "10.1.2.3", true}, {"10.0.0.0/8", "11.1.2.3", false},
		{"", "127.0.0.1", false}, {"x", "127.0.0.1", false}, {"fe80::1", "fe80::1%eth0", true}, {"127.0.0.0/8", "::1", false},
	} {
		if got := allows(tt.list, netip.MustParseAddr(tt.source)); got != tt.want {
			t.Errorf("%q from %s: %v", tt.list, tt.source, got)
		}
	}
	for _, list := range []string{"", "0.0.0.0/0", "127.0.0.1"} {
		if allows(list, netip.Addr{}) {
			t.Errorf("%q allows an unknown address", list)
		}
	}
	if peer(&net.UnixAddr{Name: "/x"}).IsValid() {
		t.Error("a socket that is not TCP has an address")
	}
}

// A list allows each address that it names, and nothing where no part can be read.
func FuzzAllows(f *testing.F) {
	f.Add("127.0.0.1", []byte{127, 0, 0, 1})
	f.Add("10.0.0.0/8,2001:db8::/32", []byte{10, 1, 2, 3})
	f.Add(",,/,::ffff:1.2.3.4", []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, list string, raw []byte) {
		a, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		if !allows(list+","+a.Unmap().String(), a) {
			t.Errorf("%q does not allow %s, which it names", list, a)
		}
		readable := false
		for part := range strings.SplitSeq(list, ",") {
			_, noAddr := netip.ParseAddr(part)
			_, noPrefix := netip.ParsePrefix(part)
			readable = readable || noAddr == nil || noPrefix == nil
		}
		if !readable && allows(list, a) {
			t.Errorf("%q allows %s", list, a)
		}
	})
}

func FuzzShellOf(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/bash\n", "0")
	f.Add("a:x:1::/:/bin/sh\nb:x:1:1:::/bin/zsh", "1")
	f.Add("#comment\n\n+::::::\n", "")
	f.Fuzz(func(t *testing.T, passwd, uid string) {
		if got := shellOf(passwd, uid); strings.ContainsAny(got, ":\n") {
			t.Errorf("%q is no field", got)
		}
		if strings.ContainsAny(uid+passwd, ":\n") {
			return
		}
		line := fmt.Sprintf("name:x:%s:1:A B:/home/a:%s\n", uid, passwd)
		if got := shellOf("short:x:"+uid+"\n"+line+"other:x:"+uid+":1::/:/other\n", uid); got != passwd {
			t.Errorf("got %q, want %q", got, passwd)
		}
	})
}

func TestConfig(t *testing.T) {
	w := newWorld(t)
	_, plain := newKey(t)
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"complete":              {func(*Config) {}, ""},
		"no listener":           {func(c *Config) { c.Listener = nil }, "no listener"},
		"open to the network":   {func(c *Config) { c.Listener = everywhere{c.Listener} }, "not a loopback address"},
		"no authority":          {func(c *Config) { c.UserCAs = nil }, "no user CA"},
		"a certificate for one": {func(c *Config) { c.UserCAs = sshca.Bundle{issue(t, w.hopParams(), w.hop)} }, "user CA"},
		"another account":       {func(c *Config) { c.Login = "somebody-else" }, "cannot open the account"},
		"no account":            {func(c *Config) { c.Login = "" }, "principal not allowed"},
		"no host ID":            {func(c *Config) { c.HostID = "" }, "principal not allowed"},
		"another host's ID":     {func(c *Config) { c.HostID = "host-b" }, `does not name "host-b"`},
		"no host key":           {func(c *Config) { c.HostKey = nil }, "no host key"},
		"a plain host key":      {func(c *Config) { c.HostKey = plain }, "no host certificate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := w.config(t)
			tt.change(&cfg)
			_, err := New(cfg)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// everywhere is a listener that says it listens on all addresses.
type everywhere struct{ net.Listener }

func (everywhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 22} }

func TestSignalNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range signalNames {
		if seen[s.name] || signalName(s.sig) != s.name {
			t.Errorf("%s is named twice", s.name)
		}
		seen[s.name] = true
	}
	if len(seen) != 13 {
		t.Errorf("the RFC names 13 signals, not %d", len(seen))
	}
}
