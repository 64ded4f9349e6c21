//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// tree is what a folder holds, by path.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".log") || filepath.Base(path) == "sshd.pid" || filepath.Base(path) == "sega" {
			return err
		}
		data, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir+"/")] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// testHost takes a stock sshd from its token to a session through the bastion, and back.
func testHost(t *testing.T, e *devtest.Env) {
	r := newHostRig(t, e, "db-1")
	stopSSHD := r.startSSHD()
	defer func() { stopSSHD() }()
	alice, security := e.LoggedIn(alice), e.LoggedIn(sam)
	expect(t, alice.Sega("hosts", "token", "db-1", "--login", "deploy", "--label", "env=dev"), 3, "enrollHost")
	expect(t, security.Sega("hosts", "token", "dev-bastion", "--login", "deploy", "--label", "env=dev"), 1, "a bastion")
	token := r.token(security)

	before := tree(t, r.dir)
	expect(t, r.enroll("--print"), 0, "TrustedUserCAKeys "+r.state()+"/hop_cas", "host check")
	expect(t, r.enroll("--print", "--principals", "guess"), 1, "command or file")
	if after := tree(t, r.dir); len(after) != len(before) {
		t.Errorf("--print has written: %v", after)
	}
	expect(t, r.enroll(), 1, "no join token")
	expect(t, r.enroll("--token-file", token), 0, "enrolled as db-1")
	expect(t, r.enroll(), 0, "enrolled already") // again, and without a token: nothing to do
	if info, err := os.Stat(filepath.Join(r.state(), "machine.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the host's key: %v, %v", info, err)
	}

	into := func(says string) {
		t.Helper()
		expect(t, alice.Sega("ssh", e.Host.Login+"@db-1", "--", "echo", says), 0, says)
	}
	into("without the daemon")
	expect(t, r.host("status"), 0, "does not answer", "version", e.Host.Login)
	stopDaemon := r.startDaemon()
	into("with the daemon")
	expect(t, alice.Sega("hosts"), 0, "db-1", "env=dev")
	t.Run("revoked", func(t *testing.T) { testHostRevoked(t, r, alice, security) })
	t.Run("file", func(t *testing.T) {
		expect(t, r.enroll("--principals", "file"), 0)
		into("by a file")
		expect(t, r.enroll(), 0)
	})
	t.Run("renewed", func(t *testing.T) {
		stopDaemon()
		cert := r.file("ssh_host_ed25519_key-cert.pub")
		old, err := os.ReadFile(cert)
		if err != nil || os.Remove(cert) != nil {
			t.Fatal(err)
		}
		stopDaemon = r.startDaemon()
		devtest.Eventually(t, patience, "no new certificate", func() error {
			now, err := os.ReadFile(cert)
			if err == nil && string(now) == string(old) {
				err = errors.New("it is the old one")
			}
			return err
		})
		into("under a new certificate")
	})
	t.Run("certificate revoked", func(t *testing.T) {
		old := r.revokeCertificate(security)
		devtest.Eventually(t, patience, "the revoked certificate stays", func() error { return r.certificateOtherThan(old) })
		into("after its certificate was revoked")
		stopDaemon()
		old = r.revokeCertificate(security)
		expect(t, r.enroll(), 0)
		if err := r.certificateOtherThan(old); err != nil {
			t.Error(err)
		}
		into("after it was revoked while nobody looked")
		stopDaemon = r.startDaemon()
	})
	t.Run("status", func(t *testing.T) { stopSSHD = testHostStatus(t, r, stopSSHD) })
	t.Run("audit", func(t *testing.T) { testHostAudit(t, r, security) })
	t.Run("rolled back", func(t *testing.T) { testHostRollback(t, r, into) })
	stopDaemon()
	expect(t, r.host("leave"), 2)
	expect(t, r.host("leave", "--yes"), 0, "sega revoke host "+r.name)
	for path := range tree(t, r.dir) {
		if _, was := before[path]; !was {
			t.Errorf("%s is left", path)
		}
	}
	if r := alice.Sega("ssh", e.Host.Login+"@db-1", "--", "true"); r.Code == 0 {
		t.Error("a host that has left lets people in")
	}
}

// testHostStatus: what keeps sshd from judging by sega's files shows, and who can look.
func testHostStatus(t *testing.T, r *hostRig, stopSSHD func()) (stop func()) {
	good := "runs by sega's configuration"
	expect(t, r.host("status"), 0, good)
	snippet := r.file("sshd_config.d/00-sega.conf")
	was, err := os.ReadFile(snippet)
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(snippet, later, later); err != nil {
		t.Fatal(err)
	}
	expect(t, r.host("status"), 0, "sshd's fault", "has not read "+snippet)
	for text, says := range map[string]string{"": "does not include", "Nonsense yes\n": "sshd -t"} {
		write(t, snippet, text)
		if v := r.host("status"); v.Code != 0 || !strings.Contains(v.Out, says) || strings.Contains(v.Out, good) {
			t.Errorf("with the file %q: %s%s", text, v.Out, v.Err)
		}
	}
	stopSSHD()
	write(t, snippet, string(was))
	expect(t, r.host("status"), 0, "none of this configuration was found to run")
	nobody := exec.Command(r.sega, "host", "status", "--dir", r.state())
	nobody.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := nobody.CombinedOutput(); err != nil || !strings.Contains(string(out), "only root can look") {
		t.Errorf("as nobody: %v: %s", err, out)
	}
	stop = r.startSSHD()
	expect(t, r.host("status"), 0, good)
	return stop
}

// testHostRevoked ends a live session, and asks what sshd would ask of its certificate.
func testHostRevoked(t *testing.T, r *hostRig, alice, security *devtest.Person) {
	cmd := alice.Command(t.Context(), "sega", "ssh", r.e.Host.Login+"@db-1", "--", "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	var hop map[string]any
	devtest.Eventually(t, patience, "no live session", func() error {
		for _, l := range strings.Split(security.Sega("sessions", "--json").Out, "\n") {
			var v struct{ ID, Kind, Host string }
			if json.Unmarshal([]byte(l), &v) == nil && v.Kind == "ssh" && v.Host == "db-1" {
				for _, e := range security.Events("--kind", "ssh.hop", "--session", v.ID) {
					hop = e
				}
			}
		}
		if hop == nil {
			return errors.New("none")
		}
		return nil
	})
	hopCAs := filepath.Join(r.state(), "hop_cas")
	out, err := exec.Command("ssh-keygen", "-lf", hopCAs).Output()
	if err != nil {
		t.Fatal(err)
	}
	question := []string{"check", "--", r.e.Host.Login, field(hop, "details.serial"), strings.Fields(string(out))[1], field(hop, "details.key_id")}
	expect(t, r.host(question...), 0, r.e.Host.Login+"@db-1\n")
	other := append([]string{}, question...)
	other[2] = "daemon"
	refused := func(q []string, why string) {
		t.Helper()
		v := r.host(q...)
		if v.Code != 0 || v.Out != "" || !strings.Contains(v.Err, why) {
			t.Errorf("exit %d, printed %q, said %q, want nothing and %q", v.Code, v.Out, v.Err, why)
		}
	}
	refused(other, "no account for people")
	expect(t, security.Sega("revoke", "session", field(hop, "session_id"), "--reason", "test", "--yes"), 0)
	devtest.Eventually(t, patience, "the host does not hear of it", func() error {
		if v := r.host(question...); v.Out != "" {
			return errors.New(v.Out)
		}
		return nil
	})
	refused(question, "was revoked")
}

// testHostAudit reads what this sshd has logged so far, and then with a login in it that came by another way.
func testHostAudit(t *testing.T, r *hostRig, security *devtest.Person) {
	log, err := os.ReadFile(r.file("sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	n := strings.Count(string(log), "Accepted publickey")
	if n < 4 {
		t.Fatalf("sshd has logged %d logins:\n%s", n, log)
	}
	expect(t, r.host("audit", r.file("sshd.log")), 0, fmt.Sprintf("%d logins, 0 that no recording covers", n))
	bypassed := write(t, r.file("auth.log"), string(log)+"Accepted password for root from 192.0.2.66 port 4711 ssh2\n")
	for range 2 {
		expect(t, r.host("audit", bypassed), 1, "192.0.2.66", "password", fmt.Sprintf("%d logins, 1 that", n+1))
	}
	found := security.Events("--kind", "host.bypass")
	if len(found) != 1 || field(found[0], "resource") != "host/db-1" || field(found[0], "source") != "192.0.2.66" {
		t.Errorf("events: %v", found)
	}
}

// testPlainHost takes an sshd without certificates: it is told of each session's key while that is opened.
func testPlainHost(t *testing.T, e *devtest.Env) {
	r := newHostRig(t, e, "old-1")
	r.configure("PidFile", "none") // it is found by where it listens
	defer r.startSSHD()()
	alice := e.LoggedIn(alice)
	token := r.token(e.LoggedIn(sam), "--plain-keys")
	expect(t, r.enroll("--token-file", token), 1, "--plain-keys=true")
	expect(t, r.enroll("--plain-keys"), 0)
	stop := r.startDaemon()
	command := []string{"ssh", e.Host.Login + "@old-1", "--", "echo", "by its key"}
	expect(t, alice.Sega(command...), 0, "by its key")
	expect(t, alice.Sega(command...), 0, "by its key")
	if v := r.host("keys", e.Host.Login); v.Code != 0 || v.Out != "" {
		t.Errorf("keys without a session: %q", v.Out)
	}
	expect(t, r.host("audit", r.file("sshd.log")), 0, "2 logins, 0 that")
	stop()
	if v := alice.Sega(command...); v.Code == 0 {
		t.Error("somebody came in without the broker's word")
	}
}

// testHostRollback has sshd's configuration go wrong under the host in several ways: nothing of it reaches an
// sshd that runs.
func testHostRollback(t *testing.T, r *hostRig, into func(string)) {
	before := tree(t, r.dir)
	first := r.file("sshd_config.d/-.conf") // read before ours
	check := func(how string, v devtest.Result, says ...string) {
		t.Helper()
		expect(t, v, 1, says...)
		if err := os.Remove(first); err != nil {
			t.Fatal(err)
		}
		for path, text := range tree(t, r.dir) {
			if before[path] != text {
				t.Errorf("%s: %s is not as before:\n%s", how, path, text)
			}
		}
		into("after " + how)
	}
	write(t, first, "NoSuchKeyword yes\n")
	check("a broken file", r.enroll("--principals", "file"), "NoSuchKeyword")
	write(t, first, "TrustedUserCAKeys /etc/passwd\n")
	check("another CA", r.enroll("--principals", "file"), `"/etc/passwd" already`, "--replace")
	write(t, first, "AuthorizedPrincipalsCommand none\nAuthorizedPrincipalsFile %h/.principals\n")
	check("a file that comes first", r.enroll("--principals", "file", "--replace"), "nothing was changed", "another file of its configuration comes first")
}

// TestHostWithoutBroker goes on with the last bundle, after a rotation of the hop CA, and says how old it is; one that is broken lets nobody in.
func TestHostWithoutBroker(t *testing.T) {
	e := devtest.Up(t)
	r := newHostRig(t, e, "db-1")
	defer r.startSSHD()()
	expect(t, r.enroll("--token-file", r.token(e.LoggedIn(sam))), 0)
	stop := r.rotateHop()
	if err := syscall.Kill(e.PID("broker"), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(e.PID("broker"), syscall.SIGCONT) }()
	out, err := exec.Command("ssh-keygen", "-lf", filepath.Join(r.state(), "hop_cas")).Output()
	if err != nil {
		t.Fatal(err)
	}
	ca := strings.Fields(string(out))[1]
	ask := func() devtest.Result {
		return r.host("check", "--", e.Host.Login, "4294967297", ca, "ssh_abcdefghijkmnpqrstuv alice@example.com")
	}
	expect(t, ask(), 0, e.Host.Login+"@db-1\n")
	stop()
	old := time.Now().Add(-3 * time.Hour)
	bundle := filepath.Join(r.state(), "bundle.json")
	if err := os.Chtimes(bundle, old, old); err != nil {
		t.Fatal(err)
	}
	expect(t, ask(), 0, e.Host.Login+"@db-1\n", "confirmed 3h0m")
	expect(t, r.host("status"), 0, "3h0m", "does not answer")
	for how, text := range map[string]string{"broken": "{", "empty": "", "of nothing": `{"bundle":{"version":1}}`} {
		if err := os.WriteFile(bundle, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if v := ask(); v.Out != "" || !strings.Contains(v.Err, "refused") {
			t.Errorf("%s bundle: %q, %q", how, v.Out, v.Err)
		}
	}
}
