//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// dummyToken is OpenSSH's stand-in for a FIDO2 authenticator (Debian: openssh-tests). It is always touched, and takes
// every PIN.
const dummyToken = "/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so"

// keyMaker makes key files and agents of a person.
type keyMaker struct {
	t   *testing.T
	p   *devtest.Person
	dir string
}

// with is a command line with what OpenSSH needs for tokens, and with somebody who types a PIN.
func (k keyMaker) with(argv ...string) []string {
	path := "PATH=" + filepath.Join(k.dir, "bin") + ":" + k.p.Bin + ":/usr/bin:/bin:/usr/sbin:/sbin"
	return append([]string{path, "SSH_SK_PROVIDER=" + dummyToken, "SSH_ASKPASS=" + filepath.Join(k.dir, "askpass"), "SSH_ASKPASS_REQUIRE=force", "DISPLAY=:0"}, argv...)
}

func (k keyMaker) run(argv ...string) devtest.Result {
	k.t.Helper()
	return k.p.Run("env", k.with(argv...)...)
}

func (k keyMaker) key(name string, args ...string) string {
	k.t.Helper()
	path := filepath.Join(k.dir, name)
	expect(k.t, k.run(append([]string{"ssh-keygen", "-q", "-N", "", "-f", path}, args...)...), 0)
	return path
}

// agent starts a real ssh-agent that holds a key, of which it removes the private file.
func (k keyMaker) agent(name, key string) (socket string) {
	k.t.Helper()
	socket = filepath.Join(k.dir, name)
	ctx, cancel := context.WithCancel(context.Background())
	c := k.p.Command(ctx, "env", k.with("ssh-agent", "-D", "-P", "/usr/lib/*", "-a", socket)...)
	if err := c.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { cancel(); _ = c.Wait() })
	devtest.Eventually(k.t, patience, "no ssh-agent", func() error { _, err := os.Stat(socket); return err })
	expect(k.t, k.run("SSH_AUTH_SOCK="+socket, "ssh-add", "-q", key), 0)
	if err := os.Remove(key); err != nil {
		k.t.Fatal(err)
	}
	return socket
}

func newKeyMaker(t *testing.T, p *devtest.Person) keyMaker {
	t.Helper()
	dir, err := os.MkdirTemp("", "sega-keys-") // the socket of an agent has a short name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "askpass"), []byte("#!/bin/sh\necho 1234\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	// What a person writes into ~/.ssh/config whose token needs a library; ssh takes no home from the environment.
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/bash\nexec -a ssh /usr/bin/ssh -o SecurityKeyProvider=" + dummyToken + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "bin", "ssh"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return keyMaker{t, p, dir}
}

// TestKeys is a person with keys of his own, plain ones, in agents and in tokens, certified and registered.
func TestKeys(t *testing.T) {
	devtest.Need(t, "ssh", "ssh-keygen", "ssh-agent", "ssh-add", "/usr/sbin/sshd")
	if _, err := os.Stat(dummyToken); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("skipped: %v (Debian: openssh-tests)", err)
	}
	e := devtest.Up(t)
	p := e.LoggedIn(alice)
	k := newKeyMaker(t, p)
	t.Run("certified", func(t *testing.T) { k.t = t; testCertifiedKeys(t, k) })
	t.Run("registered", func(t *testing.T) { k.t = t; testRegisteredKeys(t, k) })
	t.Run("demanded", func(t *testing.T) { k.t = t; testDemandedKeys(t, k) })
}

// soak reports whether the larger run is asked for.
func soak() bool { return os.Getenv("SEGA_SOAK") == "1" }

// testCertifiedKeys logs in by every kind of key of one's own.
func testCertifiedKeys(t *testing.T, k keyMaker) {
	host := k.p.Host.Name
	inAgent, other := k.key("held", "-t", "ed25519"), k.key("other", "-t", "ecdsa")
	token := k.key("token", "-t", "ed25519-sk")
	auth, named := k.agent("a1", inAgent), k.agent("a2", other)
	locked := filepath.Join(k.dir, "locked")
	expect(t, k.run("ssh-keygen", "-q", "-N", "1234", "-t", "ed25519", "-f", locked), 0)
	alone := k.key("alone", "-t", "ed25519")
	if err := os.Remove(alone + ".pub"); err != nil {
		t.Fatal(err)
	}
	for name, argv := range map[string][]string{
		"a file":                        {"sega", "ssh", "--key", k.key("plain", "-t", "ed25519"), host},
		"a file without its public one": {"sega", "ssh", "--key", alone, host},
		"with a passphrase":             {"sega", "ssh", "--key", locked, host},
		"in the ssh-agent":              {"SSH_AUTH_SOCK=" + auth, "sega", "ssh", "--key", inAgent + ".pub", host},
		"in a named agent":              {"sega", "ssh", "--key", other + ".pub", "--key-agent", named, host},
		"of a token":                    {"sega", "ssh", "--key", token, host},
		"of a token, verified":          {"sega", "ssh", "--key", k.key("pin", "-t", "ecdsa-sk", "-O", "verify-required"), "--verify", host},
	} {
		if !soak() && name != "in a named agent" && name != "of a token, verified" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			k.t = t
			expect(t, k.run(append(argv, "--", "echo", "here")...), 0, "here\n")
		})
	}
	conf := k.p.Sega("configure", "--ssh", "--print", "--key", token)
	expect(t, conf, 0)
	file := write(t, filepath.Join(k.dir, "conf"), conf.Out)
	expect(t, k.run("ssh", "-F", file, host, "echo", "configured"), 0, "configured\n")
	for name, tt := range map[string]struct {
		argv []string
		code int
		text string
	}{
		"RSA of 2048 bits":           {[]string{"sega", "ssh", "--key", k.key("short", "-t", "rsa", "-b", "2048"), host}, 1, "RSA of 2048 bits"},
		"its agent holds it not":     {[]string{"sega", "ssh", "--key", inAgent + ".pub", "--key-agent", named, host}, 255, ""},
		"a token that is no token":   {[]string{"sega", "ssh", "--key", filepath.Join(k.dir, "plain"), "--verify", host}, 3, "has not verified its user"},
		"a token that wants no PIN":  {[]string{"sega", "ssh", "--key", token, "--verify", host}, 3, "has not verified its user"},
		"no such file":               {[]string{"sega", "ssh", "--key", filepath.Join(k.dir, "none"), host}, 1, "no such file"},
		"an agent and no key":        {[]string{"sega", "ssh", "--key-agent", named, host}, 2, "--key FILE"},
		"no key at all":              {[]string{"sega", "ssh", "--key", filepath.Join(k.dir, "askpass"), host}, 1, "no key that can be used"},
		"for AWS":                    {[]string{"sega", "configure", "--key", token}, 2, "--ssh"},
		"a name that ssh cannot say": {[]string{"sega", "configure", "--ssh", "--print", "--key", write(t, filepath.Join(k.dir, "a\"b.pub"), read(t, token+".pub"))}, 1, "cannot name"},
	} {
		t.Run(name, func(t *testing.T) { k.t = t; expect(t, k.run(tt.argv...), tt.code, tt.text) })
	}
}

// plainConf is what somebody writes by hand who has a registered key.
func (k keyMaker) plainConf(key string) string {
	host, port, err := net.SplitHostPort(k.p.Bastion)
	if err != nil {
		k.t.Fatal(err)
	}
	return write(k.t, key+".conf", fmt.Sprintf(`Host bastion
    HostName %s
    Port %s
    HostKeyAlias dev-bastion
Host *
    IdentityFile %s
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile %s/ssh/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
`, host, port, key, k.p.Home))
}

// testRegisteredKeys registers keys and logs in with ssh alone, until they are removed.
func testRegisteredKeys(t *testing.T, k keyMaker) {
	p, host, login := k.p, k.p.Host.Name, k.p.Host.Login
	expect(t, p.Sega("configure", "--ssh", "--print"), 0) // writes known_hosts
	plain, token := k.key("mine", "-t", "ed25519"), k.key("mytoken", "-t", "ed25519-sk")
	conf := k.plainConf(plain)
	if r := k.run("ssh", "-F", conf, login+"+"+host+"@bastion", "echo", "in"); r.Code != 255 {
		t.Errorf("before it is registered: %+v", r)
	}
	expect(t, k.run("sega", "keys", "add", plain, "--name", "laptop", "--days", "7"), 0, "is registered as laptop")
	expect(t, k.run("sega", "keys", "add", token+".pub", "--days", "900"), 0, "mytoken", "policy gives no longer")
	expect(t, k.run("sega", "keys", "add", plain, "--name", "twice"), 1, "already")
	for _, argv := range [][]string{{"-F", conf, "-J", "bastion", login + "@" + host}, {"-F", conf, login + "%" + host + "@bastion"}, {"-F", k.plainConf(token), login + "+" + host + "@bastion"}} {
		devtest.Eventually(t, patience, "no login", func() error { // the feed brings the key within a second
			if r := k.run(append(append([]string{"ssh"}, argv...), "echo", "in")...); r.Code != 0 || r.Out != "in\n" {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
	}
	// The host knows the hop CA alone.
	port := regexp.MustCompile(`(?m)^Port (\d+)$`).FindStringSubmatch(read(t, filepath.Join(p.Data, "host", "sshd_config")))
	if port == nil {
		t.Fatal("the host's sshd has no port")
	}
	if r := k.run("ssh", "-i", plain, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-p", port[1], login+"@127.0.0.1", "true"); r.Code != 255 || !strings.Contains(r.Err, "Permission denied") {
		t.Errorf("a host took a registered key: %+v", r)
	}
	// Somebody else cannot register it, nor remove it.
	mallory := keyMaker{t, p.LoggedIn(bob), k.dir}
	if r := mallory.run("sega", "keys", "add", plain, "--name", "mine"); r.Code != 3 {
		t.Errorf("bob registers alice's key: %+v", r)
	}
	expect(t, mallory.run("sega", "keys", "rm", "laptop", "--user", alice, "--reason", "x", "--yes"), 3)
	var listed []struct{ ID, Name, Fingerprint string }
	r := p.Sega("keys", "list", "--json")
	expect(t, r, 0)
	for d := json.NewDecoder(strings.NewReader(r.Out)); d.More(); {
		var v struct{ ID, Name, Fingerprint string }
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		listed = append(listed, v)
	}
	if len(listed) != 2 || listed[0].Name != "laptop" || listed[1].Name != "mytoken" {
		t.Fatalf("listed: %+v", listed)
	}
	expect(t, p.Sega("keys", "list"), 0, "laptop", "ssh-ed25519", listed[0].Fingerprint)
	expect(t, p.Sega("__complete", "keys", "rm", ""), 0, "laptop\t", "mytoken\t")
	expect(t, p.LoggedIn(sam).Sega("keys", "list", "--user", "*"), 0, "laptop", alice)
	k.cutByRemoval(conf, "laptop")
	if r := k.run("ssh", "-F", conf, login+"+"+host+"@bastion", "echo", "in"); r.Code != 255 {
		t.Errorf("after it was removed: %+v", r)
	}
	// Security staff end what is left, for good.
	expect(t, p.LoggedIn(sam).Sega("keys", "rm", "mytoken", "--user", alice, "--reason", "lost", "--yes"), 0, "in force")
	expect(t, k.run("sega", "keys", "add", token), 3, "not to be registered again")
	log := p.LoggedIn(carol)
	for kind, n := range map[string]int{"key.add": 2, "key.remove": 2} {
		if got := log.Events("--kind", kind, "--outcome", "success", "--user", alice); kind == "key.add" && len(got) != n {
			t.Errorf("%d events %s, want %d", len(got), kind, n)
		}
		if got := log.Events("--kind", kind, "--outcome", "success"); len(got) != n {
			t.Errorf("%d events %s, want %d", len(got), kind, n)
		}
	}
}

// cutByRemoval removes a key under a session that it has opened.
func (k keyMaker) cutByRemoval(conf, name string) {
	t := k.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	live := k.p.Command(ctx, "ssh", "-F", conf, k.p.Host.Login+"+"+k.p.Host.Name+"@bastion", "echo begun; exec sleep 600")
	var errs bytes.Buffer
	live.Stderr = &errs
	shown, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	live.Stdout = writer
	if err := live.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	if _, err := shown.Read(make([]byte, 16)); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	began := time.Now()
	expect(t, k.p.Sega("keys", "rm", name, "--yes"), 0, "in force")
	var exit *exec.ExitError
	if err := live.Wait(); !errors.As(err, &exit) || time.Since(began) > 20*time.Second {
		t.Errorf("the session ended with %v after %v", err, time.Since(began))
	}
	_ = shown.Close()
}

// testDemandedKeys has policy ask for tokens, then for tokens that verify their user.
func testDemandedKeys(t *testing.T, k keyMaker) {
	p, host := k.p, k.p.Host.Name
	reviewer := p.LoggedIn(carol)
	plain, token, pin := k.key("d1", "-t", "ed25519"), k.key("d2", "-t", "ed25519-sk"), k.key("d3", "-t", "ed25519-sk", "-O", "verify-required")
	file := filepath.Join(p.Data, "policy", "access.cedar")
	before := read(t, file)
	cases := []struct {
		annotation  string
		opens, none [][]string
	}{
		{`@require_hardware_key("yes")`, [][]string{{token}, {pin}, {pin, "--verify"}}, [][]string{{}, {plain}}},
		{`@require_user_verification("yes")`, [][]string{{pin, "--verify"}}, [][]string{{}, {plain}, {token}, {pin}}},
	}
	if !soak() {
		cases = cases[1:]
	}
	for _, tt := range cases {
		reloads := len(reviewer.Events("--kind", "policy.reload", "--outcome", "success"))
		changed := strings.Replace(before, `@id("engineers-dev-hosts")`, `@id("engineers-dev-hosts") `+tt.annotation, 1)
		if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		awaitReload(t, reviewer, "success", reloads)
		argv := func(key []string) []string {
			out := []string{"sega", "ssh"}
			if len(key) > 0 {
				out = append(append(out, "--key"), key...)
			}
			return append(out, host, "--", "echo", "in")
		}
		for _, key := range tt.opens {
			expect(t, k.run(argv(key)...), 0, "in\n")
		}
		for _, key := range tt.none {
			if r := k.run(argv(key)...); r.Code == 0 || !strings.Contains(r.Err, "policy asks for a FIDO2 key") {
				t.Errorf("%s: %v: %+v", tt.annotation, key, r)
			}
		}
	}
}
