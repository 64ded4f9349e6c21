//go:build linux

package attack

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

// enrolled is a host that has enrolled, whose sshd is the system's own.
type enrolled struct {
	*machine
	name, addr string
	sshd       sshd
}

// enrolledHost starts an sshd with a certificate of the host CA, signed by hand, and enrols it by a token.
func (s *sshWorld) enrolledHost(name string, by *person) *enrolled {
	s.t.Helper()
	h := &enrolled{name: name, addr: s.startSSHD(name, s.account, identity{ca: func(c caKeys) ssh.Signer { return c.Host }})}
	h.sshd = s.sshds[len(s.sshds)-1]
	token := into[api.HostToken](s.t, s.send(by.post(api.RouteHostToken, api.HostTokenRequest{Name: name, Address: h.addr, Logins: []string{s.account},
		Labels: map[string]string{"env": "dev"}, Reason: "test"})))
	key := newHolder(s.t)
	into[api.HostEnrolled](s.t, s.send(post(api.RouteHostEnroll, key, "", api.HostEnrollRequest{Name: name, Token: token.Token})))
	h.machine = s.machineSession(key)
	return h
}

// follow puts the broker's bundle in force, and says so to the broker, as the host's daemon does.
func (h *enrolled) follow() {
	h.t.Helper()
	b := into[api.HostBundle](h.t, h.send(get(api.RouteHostBundle, h.key, h.token)))
	h.sshd.replace(h.t, "hop_ca.pub", strings.Join(b.HopCAs, "\n")+"\n")
	into[api.HostBundle](h.t, h.send(get(api.RouteHostBundle+"?"+api.ParamTrust+"="+strconv.FormatInt(b.Trust, 10), h.key, h.token)))
}

// renew asks for a certificate, has sshd read it, and waits until it is shown.
func (h *enrolled) renew() *ssh.Certificate {
	h.t.Helper()
	old, err := os.ReadFile(filepath.Join(h.sshd.dir, "key-cert.pub"))
	if err != nil {
		h.t.Fatal(err)
	}
	was, err := sshca.ParseCertificate(string(old))
	if err != nil {
		h.t.Fatal(err)
	}
	got := into[api.Certificate](h.t, h.send(h.post(api.RouteHostCertificate, api.HostCertificateRequest{PublicKey: sshca.MarshalLine(was.Key)})))
	h.sshd.replace(h.t, "key-cert.pub", got.Certificate+"\n")
	if err := h.sshd.process.Signal(syscall.SIGHUP); err != nil {
		h.t.Fatal(err)
	}
	var now *ssh.Certificate
	eventually(h.t, "the renewed certificate", func() bool { now = shownBy(h.addr); return now != nil && now.Serial == got.Serial })
	return now
}

var errSeen = errors.New("seen")

// shownBy is the certificate that an sshd shows, nil where it shows none.
func shownBy(addr string) (shown *ssh.Certificate) {
	c, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{User: "nobody", Timeout: patience, HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			shown, _ = key.(*ssh.Certificate)
			return errSeen
		}})
	if err == nil {
		_ = c.Close()
	}
	return shown
}

// sshd is one that runs.
type sshd struct {
	dir     string
	process *os.Process
}

// replace replaces a file that it reads, whole.
func (s sshd) replace(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}
