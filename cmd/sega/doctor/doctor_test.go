package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// TestSound: where all is well nothing fails, every check says so in one line, in the fixed order.
func TestSound(t *testing.T) {
	m := newMachine(t)
	found, failed := m.examine()
	var names, want []string
	for _, f := range found {
		names = append(names, f.Check)
		if f.State == Fail || f.State == Skip || f.Text == "" || strings.Contains(f.Text+f.Mend, "\n") {
			t.Errorf("%+v", f)
		}
	}
	for _, c := range Checks(m.World) {
		want = append(want, c.Name)
	}
	if diff := cmp.Diff(want, slices.Compact(names)); diff != "" || failed != 0 {
		t.Errorf("%d failed, -want +got\n%s", failed, diff)
	}
}

// TestBroken breaks one thing at a time, and asks that it is found and that its remedy is named.
func TestBroken(t *testing.T) {
	elsewhere := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		harm       func(m *machine)
		check      string
		state      State
		text, mend string
	}{
		"another version":          {func(m *machine) { m.Version = "0.9" }, "version", Warn, "the broker is of version 1.0", "install"},
		"a variable of nobody's":   {func(m *machine) { m.vars["SEGA_KEYRING"] = "x" }, "environment", Warn, "SEGA_KEYRING is no variable", "unset SEGA_KEYRING"},
		"an unknown form":          {func(m *machine) { m.vars["SEGA_ERRORS"] = "xml" }, "environment", Warn, `"xml"`, "unset SEGA_ERRORS"},
		"a home that moves":        {func(m *machine) { m.vars["SEGA_HOME"] = "here" }, "environment", Warn, "wherever you are", "whole path"},
		"an identity that is gone": {func(m *machine) { m.vars["SEGA_AUDIT_IDENTITY"] = "/none" }, "environment", Warn, "/none", "unset"},
		"a shell of before":        {func(m *machine) { m.vars["SEGA_ROLE"], m.vars["SEGA_SESSION"] = "dev", "ses_0" }, "environment", Warn, "earlier login", "exit"},
		"no broker's address":      {func(m *machine) { m.vars["SEGA_BROKER"] = "x"; m.Origin = fails }, "environment", Fail, "no broker's address", "SEGA_BROKER"},

		"a home that others write": {func(m *machine) { m.chmod("", 0o777) }, "home", Fail, "can be written by others (mode 0777)", "chmod 700 "},
		"secrets that others see":  {func(m *machine) { m.chmod("secrets", 0o755) }, "home", Fail, "open to others (mode 0755)", "chmod 700 "},
		"a home that is a file":    {func(m *machine) { m.Home = m.file("x", "") }, "home", Fail, "is no folder", "SEGA_HOME"},
		"a home below a file":      {func(m *machine) { m.Home = filepath.Join(m.file("x", ""), "y") }, "home", Fail, "x/y", ""},
		"no home at all":           {func(m *machine) { m.Home = "" }, "home", Fail, "no place", "SEGA_HOME"},

		"a locked keychain": {func(m *machine) {
			m.Login = func(context.Context) (Login, error) { return Login{}, errors.New("it is locked") }
		}, "keychain", Fail, "file (key beside the file): it is locked", "mend it"},
		"a keychain that hangs": {func(m *machine) {
			m.Login = func(context.Context) (Login, error) { <-m.Context().Done(); return Login{}, nil }
		}, "keychain", Fail, "it does not answer", "SEGA_KEYRING_BACKEND"},
		"a slow keychain": {func(m *machine) {
			m.Login = func(context.Context) (Login, error) {
				<-time.After(slow + 50*time.Millisecond)
				return m.session(), nil
			}
		}, "keychain", Warn, "every command without an agent waits", ""},

		"an agent of before":     {func(m *machine) { m.agentIs(Agent{Version: "0.9", State: "ready", Healthy: true}, nil) }, "agent", Warn, "of sega 0.9", "sega agent stop"},
		"a locked agent":         {func(m *machine) { m.agentIs(Agent{Version: "1.0", State: "locked", Mend: "sega agent unlock"}, nil) }, "agent", Warn, "the agent is locked", "sega agent unlock"},
		"an agent without feed":  {func(m *machine) { m.agentIs(Agent{Version: "1.0", State: "ready", Why: "its feed is lost"}, nil) }, "agent", Warn, "its feed is lost", "network"},
		"an agent of a stranger": {func(m *machine) { m.agentIs(Agent{}, errors.New("somebody else's process")) }, "agent", Fail, "somebody else's process", "mend it"},

		"two proxies":            {func(m *machine) { m.vars["HTTPS_PROXY"], m.vars["https_proxy"] = "http://a", "http://b" }, "proxy", Warn, "differ", "unset https_proxy"},
		"a CA file that is gone": {func(m *machine) { m.vars["SEGA_CA_FILE"] = "/none" }, "ca", Fail, "SEGA_CA_FILE names a file that cannot be read", "unset SEGA_CA_FILE"},
		"a bundle of nothing":    {func(m *machine) { m.vars["AWS_CA_BUNDLE"] = m.file("ca.pem", "junk") }, "ca", Fail, "holds no certificate", "unset AWS_CA_BUNDLE"},

		"a broker that refuses":      {func(m *machine) { m.broker.Close() }, "broker", Fail, "connection refused", "HTTPS_PROXY"},
		"a broker that is not known": {func(m *machine) { m.Origin = fails; m.Pinned = nil }, "broker", Warn, "no broker is known yet", "mend it"},
		"a CA that is not trusted":   {func(m *machine) { m.transport(&http.Transport{}) }, "broker", Fail, "is not trusted", "SEGA_CA_FILE"},
		"another broker":             {func(m *machine) { m.config.Origin = "https://other.example" }, "broker", Fail, "says that it is https://other.example", "sega login https://other.example"},
		"no broker at all":           {func(m *machine) { m.config.Origin = "" }, "broker", Fail, "not as a sega broker does", "SEGA_BROKER"},
		"a broker that is not ready": {func(m *machine) { m.ready = "not ready: the audit log takes no writes" }, "ready", Fail, "takes no writes", "operators"},
		"a log that was forked":      {func(m *machine) { m.note = "another" }, "log", Fail, "forked", "mend it"},
		"a log without checkpoint":   {func(m *machine) { m.note = "" }, "log", Fail, "without a checkpoint", "proxy"},
		"a log with another key":     {func(m *machine) { m.config.LogKey = "another" }, "log", Fail, "another than at your last login", "--accept-new-log"},
		"no log is pinned":           {func(m *machine) { m.Observe = nil }, "log", Skip, "first login", ""},
		"a clock that is ahead":      {func(m *machine) { m.date = time.Now().Add(-2 * time.Hour) }, "clock", Fail, "2h0m0s ahead of the broker", "timedatectl"},
		"a clock that is behind":     {func(m *machine) { m.date = time.Now().Add(time.Minute) }, "clock", Warn, "behind the identity provider", "set the clock"},
		"an issuer that is gone":     {func(m *machine) { m.idp.Close() }, "idp", Fail, "did not answer", "mend it"},
		"another issuer":             {func(m *machine) { m.Pinned.Issuer += "/" }, "idp", Fail, "byte for byte", "mend it"},
		"an issuer that changed":     {func(m *machine) { m.config.Issuer = "https://new.example" }, "idp", Fail, "https://new.example", "sega login"},
		"no port is free":            {func(m *machine) { m.occupy() }, "ports", Fail, "no port", "sega login --paste"},
		"not logged in":              {func(m *machine) { m.Login = noLogin }, "login", Warn, "not logged in", "sega login"},
		"logged in elsewhere":        {func(m *machine) { m.logged(func(l *Login) { l.Origin = "https://other.example" }) }, "login", Fail, "https://other.example", "unset SEGA_BROKER"},
		"a login that has ended":     {func(m *machine) { m.logged(func(l *Login) { l.NotAfter = elsewhere }) }, "login", Warn, "ended on 20", "sega login"},
		"a session that has ended": {func(m *machine) {
			m.answers(func(p *policy) { p.err = api.Errorf(api.KindRevoked, "access was revoked") })
		}, "login", Fail, "access was revoked", "mend it"},
		"a login without MFA":         {func(m *machine) { m.answers(func(p *policy) { p.status.MFA = false }) }, "login", Warn, "without MFA", "second factor"},
		"a login that is not renewed": {func(m *machine) { m.logged(func(l *Login) { l.Renewable = false }) }, "login", Warn, "cannot be renewed", "refresh tokens"},
		"no roles":                    {func(m *machine) { m.answers(func(p *policy) { p.roles = p.roles[1:] }) }, "roles", Warn, "none of 1 AWS roles: prod needs oncall", "sega roles --all"},
		"no hosts":                    {func(m *machine) { m.answers(func(p *policy) { p.hosts = nil }) }, "hosts", Warn, "none of 0 hosts", "sega hosts --all"},

		"a bastion that is down": {func(m *machine) { m.silent("10.0.0.1:22") }, "bastions", Warn, "1 of 2 bastions answer, and not: bastion-1 at 10.0.0.1:22 (connection refused)", "whoever runs the bastions"},
		"no bastion answers":     {func(m *machine) { m.silent("10.0.0.1:22", "10.0.0.2:22") }, "bastions", Fail, "no bastion answers: bastion-1 at 10.0.0.1:22 (connection refused), bastion-2", "check the network"},
		"no bastion is missed": {func(m *machine) {
			m.silent("10.0.0.1:22", "10.0.0.2:22")
			m.answers(func(p *policy) { p.hosts = nil })
		}, "bastions", Warn, "opens no host for you", ""},
		"a broker without bastion": {func(m *machine) { m.Bastions = nil }, "bastions", Skip, "names no bastion", ""},
		"bastions of nobody":       {func(m *machine) { m.Pinned = nil }, "bastions", Skip, "first login", ""},

		"a profile that is hidden": {func(m *machine) { m.AWS = func() (AWS, error) { return AWS{Hidden: []string{"[dev] hides it"}}, nil } }, "aws-files", Fail, "[dev] hides it", "delete"},
		"a default profile": {func(m *machine) {
			m.AWS = func() (AWS, error) { return AWS{First: []string{"role_arn in line 2"}}, nil }
		}, "aws-files", Warn, "role_arn in line 2", "another name"},
		"files that are damaged": {func(m *machine) { m.AWS = func() (AWS, error) { return AWS{}, errors.New("line 3 is no section") } }, "aws-files", Fail, "line 3", "mend it"},
		"keys in the shell":      {func(m *machine) { m.vars["AWS_ACCESS_KEY_ID"], m.vars["AWS_SESSION_TOKEN"] = "AKIA", "x" }, "aws-environment", Warn, "not sega's", "unset AWS_ACCESS_KEY_ID AWS_SESSION_TOKEN"},
		"keys that have expired": {func(m *machine) {
			m.vars["AWS_ACCESS_KEY_ID"], m.vars["AWS_CREDENTIAL_EXPIRATION"], m.vars["SEGA_ROLE"] = "ASIA", "2020-01-01T00:00:00Z", "dev"
		}, "aws-environment", Fail, "expired on", "unset AWS_ACCESS_KEY_ID AWS_CREDENTIAL_EXPIRATION"},
		"a profile that is not there": {func(m *machine) { m.vars["AWS_PROFILE"] = "ghost" }, "aws-environment", Fail, `"ghost"`, "sega configure"},
		"a container's credentials":   {func(m *machine) { m.vars["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://x" }, "aws-environment", Warn, "not by sega", "unset AWS_CONTAINER"},
		"a file that is not there":    {func(m *machine) { m.vars["AWS_CONFIG_FILE"] = "/none" }, "aws-environment", Warn, "/none", "unset AWS_CONFIG_FILE"},

		"an agent's socket gone":  {func(m *machine) { m.vars["SSH_AUTH_SOCK"] = "/none" }, "ssh-agent", Warn, "not there", "unset SSH_AUTH_SOCK"},
		"an agent's socket dead":  {func(m *machine) { m.vars["SSH_AUTH_SOCK"] = m.file("sock", "") }, "ssh-agent", Warn, "nobody answers", "unset SSH_AUTH_SOCK"},
		"another tool at work":    {func(m *machine) { m.vars["AWS_VAULT"] = "dev" }, "other-tools", Warn, "aws-vault", "unset AWS_VAULT"},
		"profiles of other tools": {func(m *machine) { m.AWS = func() (AWS, error) { return AWS{Rivals: []string{"old (aws-okta)"}}, nil } }, "other-tools", OK, "old (aws-okta)", "sega configure --import"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			c.harm(m)
			found, failed := m.examine()
			m.expect(found, c.check, c.state, c.text, c.mend)
			for _, f := range found {
				if f.State == Fail {
					failed--
				}
				if f.Text == "" || strings.Contains(f.Text+f.Mend, "\n") {
					t.Errorf("not one line: %+v", f)
				}
			}
			if failed != 0 {
				t.Errorf("failures were counted wrong by %d", failed)
			}
		})
	}
}

func fails() (string, error) { return "", errors.New("no address") }

func noLogin(context.Context) (Login, error) { return Login{}, ErrNoLogin }

func (m *machine) chmod(name string, mode os.FileMode) {
	if err := os.Chmod(filepath.Join(m.Home, name), mode); err != nil {
		m.Fatal(err)
	}
}

func (m *machine) file(name, text string) string {
	path := filepath.Join(m.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.Fatal(err)
	}
	return path
}

func (m *machine) agentIs(a Agent, err error) {
	m.Agent = func(context.Context) (Agent, error) { return a, err }
}

func (m *machine) transport(t *http.Transport) {
	m.Transport = func() (*http.Transport, error) { return t, nil }
}

func (m *machine) logged(change func(*Login)) {
	l := m.session()
	change(&l)
	m.Login = func(context.Context) (Login, error) { return l, nil }
}

func (m *machine) answers(change func(*policy)) {
	m.logged(func(l *Login) {
		p := l.Broker.(policy)
		change(&p)
		l.Broker = p
	})
}

// silent has nobody answer at some addresses.
func (m *machine) silent(addresses ...string) {
	m.Reach = func(_ context.Context, address string) error {
		if slices.Contains(addresses, address) {
			return syscall.ECONNREFUSED
		}
		return nil
	}
}

// occupy listens on the registered port.
func (m *machine) occupy() {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: m.Pinned.RedirectPorts[0]})
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = l.Close() })
}

// TestEverythingHangs: a network that swallows all and a keychain that never answers cost ten seconds on an idle machine,
// and not that for each of them; what could not be looked at is said.
func TestEverythingHangs(t *testing.T) {
	m := newMachine(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections into its queue, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	m.Origin = func() (string, error) { return "https://" + silent.Addr().String(), nil }
	m.Pinned.Issuer = "https://" + silent.Addr().String()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	m.Login = func(context.Context) (Login, error) { <-hang; return Login{}, nil }
	m.Agent = func(ctx context.Context) (Agent, error) { <-hang; return Agent{}, nil }
	m.AWS = func() (AWS, error) { <-hang; return AWS{}, nil }
	begun := time.Now()
	found, failed := m.examine()
	if took := time.Since(begun); took > 20*time.Second || failed == 0 {
		t.Errorf("%s, %d failed", took, failed)
	}
	m.expect(found, "broker", Fail, "no answer in time", "network")
	m.expect(found, "idp", Fail, "", "mend it")
	m.expect(found, "keychain", Fail, "it does not answer", "")
	m.expect(found, "agent", Fail, "it did not answer within 8s", "")
	m.expect(found, "ready", Skip, "the broker cannot be asked", "")
	m.expect(found, "clock", Skip, "neither", "")
	m.expect(found, "roles", Skip, "there is none", "")
	m.expect(found, "home", OK, "private", "")
}

// TestOffline: without network and without a login everything that is on this machine is still judged.
func TestOffline(t *testing.T) {
	m := newMachine(t)
	m.broker.Close()
	m.idp.Close()
	m.Login = noLogin
	m.Home = filepath.Join(m.Home, "none")
	found, _ := m.examine()
	for check, state := range map[string]State{"version": OK, "environment": OK, "home": OK, "keychain": OK, "agent": OK, "proxy": OK, "ca": OK, "broker": Fail, "ready": Skip, "clock": Skip,
		"log": Skip, "idp": Fail, "ports": OK, "login": Warn, "roles": Skip, "hosts": Skip, "aws-files": OK, "aws-environment": OK, "ssh-config": OK, "ssh-agent": OK} {
		m.expect(found, check, state, "", "")
	}
	if _, err := os.Stat(m.Home); !os.IsNotExist(err) {
		t.Errorf("the home was made: %v", err)
	}
}

// TestNoSecretInFindings: the values of variables that hold secrets, and a proxy's password, are not told.
func TestNoSecretInFindings(t *testing.T) {
	m := newMachine(t)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "SEGA_UNKNOWN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"} {
		m.vars[name] = "canary"
	}
	m.vars["HTTPS_PROXY"], m.vars["https_proxy"] = "http://u:canary@a", "http://u:canary@b"
	found, _ := m.examine()
	for _, f := range found {
		if strings.Contains(f.Text+f.Mend, "canary") {
			t.Errorf("%+v", f)
		}
	}
}

func TestReleases(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if runtime.GOOS == "windows" {
		t.Fatal("programs of this test are shell scripts")
	}
	for name, c := range map[string]struct {
		ssh, aws       string
		sshIs, awsIs   State
		sshSay, awsSay string
	}{
		"none":     {"", "", Warn, OK, "no ssh", "not installed"},
		"new":      {"OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.11", "aws-cli/2.9.19 Python/3.11.2 Linux/6.1", OK, OK, "OpenSSH 9.2", "version 2.9"},
		"Windows":  {"OpenSSH_for_Windows_8.1p1, LibreSSL 3.0.2", "aws-cli/1.44.5 md/Botocore", Warn, OK, "before 8.9", "version 1.44"},
		"too old":  {"OpenSSH_7.2p2 Ubuntu-4", "aws-cli/1.11.13 Python/3.5", Fail, Fail, "needs 7.3", "too old"},
		"stranger": {"Dropbear v2022.83", "usage: aws", Warn, Warn, "no OpenSSH", "does not say its version"},
	} {
		t.Run(name, func(t *testing.T) {
			for program, says := range map[string]string{"ssh": c.ssh, "aws": c.aws} {
				path := filepath.Join(dir, program)
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				if says == "" {
					continue
				}
				if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+says+"' >&2\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			m := newMachine(t)
			x := &exam{World: m.World}
			m.expect(named("ssh", x.ssh(t.Context())), "ssh", c.sshIs, c.sshSay, "")
			m.expect(named("aws-cli", x.awsCLI(t.Context())), "aws-cli", c.awsIs, c.awsSay, "")
		})
	}
}

func named(name string, found []Finding) []Finding {
	for i := range found {
		found[i].Check = name
	}
	return found
}

// TestInterception: a proxy that opens TLS is known by the issuer of what it shows.
func TestInterception(t *testing.T) {
	for issuer, want := range map[string]bool{"CN=Zscaler Intermediate Root CA (zscaler.net),O=Zscaler Inc.": true, "CN=Corp Proxy CA": true, "CN=R11,O=Let's Encrypt,C=US": false, "CN=DigiCert Global G2": false, "": false} {
		if got := intercepted(issuer) != ""; got != want {
			t.Errorf("%s: %v", issuer, got)
		}
	}
}

// TestVariables: those that README.md documents are known, and what serve gives a shell.
func TestVariables(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(SEGA_\\w+)` \\|").FindAllStringSubmatch(string(data), -1)
	if len(rows) < 5 {
		t.Fatalf("only %d variables were found in README.md: the search is broken", len(rows))
	}
	for _, m := range append(rows, []string{"", "SEGA_ENDPOINT"}) {
		if !slices.Contains(variables, m[1]) {
			t.Errorf("%s is documented, and taken for a mistake", m[1])
		}
	}
}

// TestChecksAreDocumented: docs/operations.md lists the names of the checks, in their order.
func TestChecksAreDocumented(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, row, _ := strings.Cut(string(data), "| `check` |")
	row, _, _ = strings.Cut(row, ";")
	var documented, names []string
	for _, m := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(row, -1) {
		documented = append(documented, m[1])
	}
	for _, c := range Checks(newMachine(t).World) {
		names = append(names, c.Name)
	}
	if diff := cmp.Diff(names, documented); diff != "" {
		t.Errorf("-code +docs/operations.md\n%s", diff)
	}
}

// TestStopsWhereNobodyReads: a pipe that is closed ends the telling.
func TestStopsWhereNobodyReads(t *testing.T) {
	gone := errors.New("gone")
	told := 0
	_, err := Run(t.Context(), []Check{{"a", func(context.Context) []Finding { return one(good("x")) }}, {"b", func(context.Context) []Finding { return one(good("y")) }}}, time.Second,
		func(Finding) error { told++; return gone })
	if !errors.Is(err, gone) || told != 1 {
		t.Errorf("%v after %d", err, told)
	}
}

// TestSSHConfig: the block is found where ssh finds it, and held against this machine and the hosts.
func TestSSHConfig(t *testing.T) {
	text := func(home, tool string, hosts ...string) string {
		s := "# sega: hosts of https://sega.example, made 2030-01-01T00:00:00Z\n"
		for _, h := range hosts {
			s += `Match originalhost ` + h + ` exec "SEGA_HOME='` + home + `' '` + tool + `' ssh --renew"` + "\n    User x\n"
		}
		return s
	}
	for name, c := range map[string]struct {
		files      func(m *machine) map[string]string
		state      State
		text, mend string
	}{
		"none":     {func(*machine) map[string]string { return nil }, OK, "does not know your hosts", "sega configure --ssh"},
		"not ours": {func(*machine) map[string]string { return map[string]string{"config": "Host *\n"} }, OK, "does not know your hosts", "sega configure"},
		"in the file itself": {func(m *machine) map[string]string {
			return map[string]string{"config": text(m.Home, "/bin/sh", "web-1")}
		}, OK, "up to date", ""},
		"included": {func(m *machine) map[string]string {
			return map[string]string{"config": "Include ~/.ssh/conf.d/*.conf\n", "conf.d/sega.conf": text(m.Home, "/bin/sh", "web-1")}
		}, OK, "conf.d/sega.conf is up to date", ""},
		"included in a circle": {func(*machine) map[string]string { return map[string]string{"config": "include config\n"} }, OK, "does not know", ""},
		"of another home": {func(*machine) map[string]string {
			return map[string]string{"config": text("/other%%", "/bin/sh", "web-1")}
		}, Warn, "another folder of sega: /other%", "sega configure --ssh"},
		"of a program gone": {func(m *machine) map[string]string { return map[string]string{"config": text(m.Home, "/none", "web-1")} }, Fail, "gone: /none", "sega configure --ssh"},
		"without a host": {func(m *machine) map[string]string {
			return map[string]string{"config": text(m.Home, "/bin/sh", "web-9")}
		}, Warn, "lacks 1 of your hosts: web-1", "sega configure --ssh"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			for file, content := range c.files(m) {
				path := filepath.Join(m.User, ".ssh", file)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			found, _ := m.examine()
			m.expect(found, "ssh-config", c.state, c.text, c.mend)
		})
	}
}
