//go:build linux

package attack

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/broker/api"
	"sega/sshca"
)

// TestCertificatesAtTheBastion shows certificates that open nothing.
func TestCertificatesAtTheBastion(t *testing.T) {
	s := newSSHWorld(t, nil)
	a := s.login("alice").access()
	target := s.account + "%host-a"
	c, err := s.dial(target, ssh.PublicKeys(a.signer()))
	if err != nil {
		t.Fatal(err)
	}
	if out, errs, err := run(c, "echo in"); out != "in\n" || err != nil {
		t.Fatalf("the right certificate opens nothing, so that the others prove nothing: %q %q %v", out, errs, err)
	}
	_ = c.Close()

	same := func(*ssh.Certificate) {}
	now := time.Now()
	window := func(from, to time.Duration) func(*ssh.Certificate) {
		return func(c *ssh.Certificate) {
			c.ValidAfter, c.ValidBefore = uint64(now.Add(from).Unix()), uint64(now.Add(to).Unix())
		}
	}
	for name, tc := range map[string]struct {
		signer ssh.Signer
		reason error
	}{
		"expired":                   {a.forged(s.cas.Access, window(-time.Hour, -time.Minute)), sshca.ErrExpired},
		"not yet valid":             {a.forged(s.cas.Access, window(time.Minute, 5*time.Minute)), sshca.ErrNotYetValid},
		"for ever":                  {a.forged(s.cas.Access, func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }), sshca.ErrLifetime},
		"for a day":                 {a.forged(s.cas.Access, window(-time.Minute, 24*time.Hour)), sshca.ErrLifetime},
		"of a foreign CA":           {a.forged(newSigner(t), same), sshca.ErrUnknownCA},
		"of the hop CA":             {a.forged(s.cas.Hop, same), sshca.ErrUnknownCA},
		"of the front CA":           {a.forged(s.cas.Front, same), sshca.ErrUnknownCA},
		"of the host CA":            {a.forged(s.cas.Host, same), sshca.ErrUnknownCA},
		"a host certificate":        {a.forged(s.cas.Access, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }), sshca.ErrType},
		"without principals":        {a.forged(s.cas.Access, func(c *ssh.Certificate) { c.ValidPrincipals = nil }), sshca.ErrPrincipal},
		"with two principals":       {a.forged(s.cas.Access, func(c *ssh.Certificate) { c.ValidPrincipals = append([]string{"root"}, c.ValidPrincipals...) }), sshca.ErrPrincipal},
		"with a hop's principal":    {a.forged(s.cas.Access, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"root@host-a"} }), sshca.ErrPrincipal},
		"with the key ID of a hop":  {a.forged(s.cas.Access, func(c *ssh.Certificate) { c.KeyId = "ssh_abcdefghijkmnpqr2345 alice@example.com" }), sshca.ErrKeyID},
		"with serial 0":             {a.forged(s.cas.Access, func(c *ssh.Certificate) { c.Serial = 0 }), sshca.ErrSerial},
		"unknown critical option":   {a.forged(s.cas.Access, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"verify-required": ""} }), sshca.ErrOption},
		"force-command":             {a.forged(s.cas.Access, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "true"} }), sshca.ErrOption},
		"of another source-address": {a.forged(s.cas.Access, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "192.0.2.0/24"} }), sshca.ErrSource},
		"altered after signing":     {a.forged(nil, func(c *ssh.Certificate) { c.Serial++ }), sshca.ErrSignature},
		"nested":                    {a.forged(nil, func(c *ssh.Certificate) { c.SignatureKey = a.cert }), errors.New("invalid for certificates")},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.at(t)
			for _, user := range []string{target, "alice"} {
				before := s.size()
				if c, err := s.dial(user, ssh.PublicKeys(tc.signer)); err == nil {
					_ = c.Close()
					t.Errorf("%s was let in", user)
				}
				e := s.await(before, "ssh.refuse", audit.Denied)
				if !strings.Contains(e.Reason, tc.reason.Error()) || e.Actor.Kind != audit.ActorAnonymous || e.Source != "127.0.0.1" || e.Resource != "machine/"+bastionName {
					t.Errorf("event %+v, want the reason %q", e, tc.reason)
				}
				s.nothingOpened(before)
			}
		})
	}
}

// TestNoCertificate tries what is no certificate: it opens nothing and reaches nobody.
func TestNoCertificate(t *testing.T) {
	s := newSSHWorld(t, nil)
	a, thief := s.login("alice").access(), newSigner(t)
	before := s.size()
	for name, auth := range map[string]ssh.AuthMethod{
		"plain key":             ssh.PublicKeys(a.plain),
		"password":              ssh.Password("pw-alice"),
		"keyboard":              ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) { return make([]string, len(q)), nil }),
		"certificate, no key":   ssh.PublicKeys(shown{thief, a.cert}),
		"the CA's own key":      ssh.PublicKeys(s.cas.Access),
		"another's certificate": ssh.PublicKeys(shown{a.plain, s.login("bob").access().cert}),
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := s.dial(s.account+"%host-a", auth); err == nil {
				_ = c.Close()
				t.Error("was let in")
			}
		})
	}
	if c, err := s.dial(s.account + "%host-a"); err == nil {
		_ = c.Close()
		t.Error("no authentication at all was let in")
	}
	e := s.await(before, "ssh.refuse", audit.Denied) // of a certificate without its key
	if !strings.Contains(e.Reason, "signature") || !strings.Contains(e.details, `"signed":true`) {
		t.Errorf("event %+v", e)
	}
	s.nothingOpened(before)
}

// TestCertificateOfARevokedLogin: the certificate is good by itself, and the broker says no.
func TestCertificateOfARevokedLogin(t *testing.T) {
	s := newSSHWorld(t, nil)
	sam := s.login("sam")
	for name, tc := range map[string]struct {
		end     func(p *person)
		outcome audit.Outcome
	}{
		"user revoked":    {func(p *person) { s.revoked(sam.revoke("user", p.Person.Email)) }, audit.Revoked},
		"session revoked": {func(p *person) { s.revoked(sam.revoke("session", p.LoginID)) }, audit.Revoked},
		"logged out":      {func(p *person) { into[api.Empty](t, s.send(p.post(api.RouteLogout, api.Empty{}))) }, audit.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.at(t)
			who := map[string]string{"user revoked": "bob", "session revoked": "alice", "logged out": "alice"}[name]
			p := s.login(who)
			a := p.access()
			tc.end(p)
			before := s.size()
			s.toldNo(a, s.account+"%host-a")
			if e := s.await(before, "ssh.hop", tc.outcome); e.LoginID != p.LoginID || e.Actor.Email != p.Person.Email {
				t.Errorf("event %+v", e)
			}
			s.nothingOpened(before)
		})
	}
	alice := s.login("alice")
	never := alice.access() // signed by the CA, and not in the broker's books: a stolen CA key
	forged := never.forged(s.cas.Access, func(c *ssh.Certificate) { c.Serial += 700 }).(shown)
	before := s.size()
	s.toldNo(access{forged.Signer, forged.cert.(*ssh.Certificate)}, s.account+"%host-a")
	s.await(before, "ssh.hop", audit.Denied)
	s.nothingOpened(before)
}

// toldNo connects with a good certificate and must be refused a session.
func (s *sshWorld) toldNo(a access, user string) string {
	s.t.Helper()
	c, err := s.dial(user, ssh.PublicKeys(a.signer()))
	if err != nil {
		s.t.Fatalf("%s is refused at the door already: %v", user, err)
	}
	defer func() { _ = c.Close() }()
	out, errs, err := run(c, "echo in")
	if err == nil || out != "" {
		s.t.Errorf("%s: the command ran: %q %v", user, out, err)
	}
	return errs
}

// jump opens a direct-tcpip channel through an outer connection.
func (s *sshWorld) jump(outer *ssh.Client, to string) (net.Conn, error) { return outer.Dial("tcp", to) }

// TestJumps: ssh -J reaches hosts by name on port 22, under the outer connection's certificate alone.
func TestJumps(t *testing.T) {
	s := newSSHWorld(t, nil)
	alice, bob := s.login("alice").access(), s.login("bob").access()
	outer, err := s.dial("alice", ssh.PublicKeys(alice.signer()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = outer.Close() }()
	inner := func(a access) (*ssh.Client, error) {
		nc, err := s.jump(outer, "host-a:22")
		if err != nil {
			return nil, err
		}
		conn, chans, reqs, err := ssh.NewClientConn(nc, "host-a", &ssh.ClientConfig{User: s.account, Auth: []ssh.AuthMethod{ssh.PublicKeys(a.signer())},
			HostKeyCallback: frontOnly(sshca.Bundle{s.cas.Front.PublicKey()}, "host-a")})
		if err != nil {
			return nil, err
		}
		return ssh.NewClient(conn, chans, reqs), nil
	}
	c, err := inner(alice)
	if err != nil {
		t.Fatal(err)
	}
	if out, errs, err := run(c, "echo in"); out != "in\n" || err != nil {
		t.Fatalf("the right jump opens nothing: %q %q %v", out, errs, err)
	}
	_ = c.Close()
	before := s.size()
	opened := before
	if c, err := inner(bob); err == nil {
		_ = c.Close()
		t.Error("another's certificate inside was let in")
	}
	if e := s.await(before, "ssh.refuse", audit.Denied); !strings.Contains(e.Reason, "not the one of the outer connection") {
		t.Errorf("event %+v", e)
	}
	_, brokerPort, _ := net.SplitHostPort(s.web.Listener.Addr().String())
	_, hostPort, _ := net.SplitHostPort(s.hosts["host-a"])
	for _, to := range []string{"127.0.0.1:" + brokerPort, "127.0.0.1:" + hostPort, "127.0.0.1:22", "localhost:22", "host-a:80", "host-a:" + hostPort, "host-a:0", "host-9:22", "bastion-1:22", "169.254.169.254:80"} {
		t.Run(to, func(t *testing.T) {
			s := s.at(t)
			before := s.size()
			nc, err := s.jump(outer, to)
			if err == nil {
				_ = nc.Close()
				t.Fatal("was opened")
			}
			eventually(t, "an event", func() bool {
				for _, e := range s.since(before) {
					if (e.Kind == "ssh.refuse" || e.Kind == "ssh.front") && e.Outcome == audit.Denied {
						return true
					}
				}
				return false
			})
		})
	}
	if _, err := outer.NewSession(); err == nil {
		t.Error("the bastion itself gave a session")
	}
	if _, err := outer.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("a remote forward was opened")
	}
	s.nothingOpened(opened)
}

// TestHopCertificateAtAnotherHost takes host-a's hop certificate to host-b, both stock sshd (R5).
func TestHopCertificateAtAnotherHost(t *testing.T) {
	s := newSSHWorld(t, nil)
	alice, m := s.login("alice"), s.own
	_, serial, fingerprint := alice.certified()
	key := newSigner(t)
	r := hopFor(t, serial, fingerprint)
	r.Host, r.Login, r.HopKey = "host-a", s.account, sshca.MarshalLine(key.PublicKey())
	hop := into[api.Hop](t, s.send(m.post(api.RouteHop, r)))
	cert, err := sshca.ParseCertificate(hop.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	at := func(host, user string, signer ssh.Signer) error {
		c, err := ssh.Dial("tcp", s.hosts[host], &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	if err := at("host-a", s.account, shown{key, cert}); err != nil {
		t.Fatalf("host-a refuses its own certificate, so that host-b's refusal proves nothing: %v", err)
	}
	if at("host-b", s.account, shown{key, cert}) == nil {
		t.Error("host-b took host-a's certificate")
	}
	if at("host-a", "nobody", shown{key, cert}) == nil {
		t.Error("host-a took it for another account")
	}
	if at("host-a", s.account, alice.access().signer()) == nil {
		t.Error("host-a took an access certificate")
	}
	bare := access{key, cert}
	if at("host-a", s.account, bare.forged(s.cas.Hop, func(c *ssh.Certificate) { c.ValidPrincipals = nil })) == nil {
		t.Error("host-a took a certificate without principals")
	}
	if at("host-a", s.account, bare.forged(s.cas.Hop, func(c *ssh.Certificate) { c.CriticalOptions["source-address"] = "192.0.2.1/32" })) == nil {
		t.Error("host-a took it from an address that is not a bastion's")
	}
}

// TestHostsThatLie: the bastion hands its one-hop certificate to the host that it asked for, and to none else.
func TestHostsThatLie(t *testing.T) {
	foreign := newSigner(t)
	s := newSSHWorld(t, map[string]identity{
		"foreign":  {ca: func(caKeys) ssh.Signer { return foreign }},
		"leaked":   {ca: func(c caKeys) ssh.Signer { return c.Front }}, // a mask that was stolen
		"posing":   {ca: func(c caKeys) ssh.Signer { return c.Host }, name: "host-a"},
		"unsigned": {ca: func(c caKeys) ssh.Signer { return c.Hop }},
	})
	a := s.login("alice").access()
	for _, host := range []string{"foreign", "leaked", "posing", "unsigned"} {
		t.Run(host, func(t *testing.T) {
			s := s.at(t)
			before := s.size()
			if told := s.toldNo(a, s.account+"%"+host); !strings.Contains(told, "host's key") {
				t.Errorf("told %q", told)
			}
			e := s.await(before, "session.start", audit.Failure)
			if !strings.Contains(e.Reason, "host's key") || e.Actor.Email != "alice@example.com" || e.Resource != "host/"+host {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// TestLiveSessionIsCut revokes a person with a command running, and a hop of hers under way.
func TestLiveSessionIsCut(t *testing.T) {
	s := newSSHWorld(t, nil)
	alice, sam := s.login("alice"), s.login("sam")
	a := alice.access()
	c, err := s.dial(s.account+"%host-a", ssh.PublicKeys(a.signer()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ended := make(chan string, 1)
	before := s.size()
	go func() { _, errs, _ := run(c, "sleep 60"); ended <- errs }()
	s.await(before, "session.command", audit.Success)
	receipt := s.revoked(sam.revoke("user", "alice@example.com"))
	select {
	case errs := <-ended:
		if !strings.Contains(errs, "revoked") {
			t.Errorf("told %q", errs)
		}
	case <-time.After(patience): // within a second, says make bench ONLY=revoke.cut; a busy machine may take longer
		t.Error("the session lives on after the revocation")
	}
	acknowledged := false
	for _, p := range receipt.Points {
		acknowledged = acknowledged || p.Name == bastionName && p.Acknowledged && p.Closed == 1
	}
	if !acknowledged {
		t.Errorf("receipt %+v", receipt.Points)
	}
	if e := s.await(before, "session.end", audit.Revoked); e.Actor.Email != "alice@example.com" {
		t.Errorf("event %+v", e)
	}
	s.silentAfter(receipt.Index, "00ualice")
}
