//go:build linux

package host

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

const certLine = `Accepted publickey for root from 127.0.0.1 port 44972 ssh2: ED25519-CERT SHA256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ID ssh_abcdefghijkmnpqrstuv alice@example.com (serial 4294967299) CA ED25519 SHA256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb`

const fingerprintA = "SHA256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// TestLogLines reads lines as OpenSSH 9.2 and 9.8 write them, by syslog, journalctl and sshd -e.
func TestLogLines(t *testing.T) {
	cert := api.HostLogin{Login: "root", Source: "127.0.0.1", Method: "publickey", Fingerprint: fingerprintA, KeyID: "ssh_abcdefghijkmnpqrstuv alice@example.com", Serial: 4294967299}
	at := func(l api.HostLogin, text string) api.HostLogin {
		l.Time, _ = time.Parse(time.RFC3339Nano, text)
		return l
	}
	for name, tt := range map[string]struct {
		line string
		want *api.HostLogin
	}{
		"sshd -e":        {certLine, &cert},
		"syslog":         {"Nov 22 18:15:42 db-1 sshd[4711]: " + certLine, &cert},
		"syslog of 9.8":  {"Nov 22 18:15:42 db-1 sshd-session[4711]: " + certLine, &cert},
		"with a year":    {"2026-11-22T18:15:42.123456+01:00 db-1 sshd[4711]: " + certLine, ptr(at(cert, "2026-11-22T18:15:42.123456+01:00"))},
		"journalctl":     {"2026-11-22T18:15:42+0000 db-1 sshd[4711]: " + certLine + "\r\n", ptr(at(cert, "2026-11-22T18:15:42Z"))},
		"a quoted ID":    {strings.Replace(strings.Replace(certLine, "ID ssh_", `ID "ssh_`, 1), ".com (", `.com" (`, 1), &cert},
		"a plain key":    {"Accepted publickey for root from ::1 port 22 ssh2: ED25519 " + fingerprintA, &api.HostLogin{Login: "root", Source: "::1", Method: "publickey", Fingerprint: fingerprintA}},
		"a password":     {"Accepted password for bob from 192.0.2.1 port 22 ssh2", &api.HostLogin{Login: "bob", Source: "192.0.2.1", Method: "password"}},
		"PAM":            {"Accepted keyboard-interactive/pam for bob from 192.0.2.1 port 22 ssh2", &api.HostLogin{Login: "bob", Source: "192.0.2.1", Method: "keyboard-interactive/pam"}},
		"before a login": {`Accepted certificate ID "ssh_a b" (serial 1) signed by ED25519 CA SHA256:x via /etc/ca`, nil},
		"refused":        {"sshd[1]: Failed password for root from 192.0.2.1 port 22 ssh2", nil},
		"a name that looks like a line": {
			"Nov 22 18:15:42 db-1 sshd[1]: Invalid user sshd[2]: Accepted password for root from 192.0.2.1 port 22 ssh2 from 192.0.2.9 port 1", nil},
		"another program": {"Nov 22 18:15:42 db-1 cron[1]: Accepted password for root from 192.0.2.1 port 22 ssh2", nil},
		"a key ID that looks like the rest": {strings.Replace(certLine, "alice@example.com", "x (serial 1) CA ED25519 SHA256:ccc", 1),
			&api.HostLogin{Login: "root", Source: "127.0.0.1", Method: "publickey", Fingerprint: fingerprintA, KeyID: "ssh_abcdefghijkmnpqrstuv x (serial 1) CA ED25519 SHA256:ccc", Serial: 4294967299}},
		"a serial too large": {strings.Replace(certLine, "4294967299", "99999999999999999999999", 1), ptr(func() api.HostLogin { l := cert; l.Serial = 18446744073709551615; return l }())},
		"empty":              {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := newLogReader().parse(tt.line)
			if ok != (tt.want != nil) {
				t.Fatalf("read %+v, %v", got, ok)
			}
			if !ok {
				return
			}
			got.Line = ""
			if diff := cmp.Diff(*tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// TestLogIsReadWhole: batches hold every login once, whatever stands between.
func TestLogIsReadWhole(t *testing.T) {
	log := strings.Repeat(certLine+"\n"+strings.Repeat("x", maxLogLine+7)+"\nsshd[1]: Failed\n", api.MaxHostLogins+3) + certLine
	var sizes []int
	if err := newLogReader().read(strings.NewReader(log), func(b []api.HostLogin) error { sizes = append(sizes, len(b)); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{api.MaxHostLogins, 4}, sizes); diff != "" {
		t.Error(diff)
	}
}

// TestForgedLinesFitARequest: lines that somebody has written to the log himself do not keep others from being asked about.
func TestForgedLinesFitARequest(t *testing.T) {
	forged := strings.Replace(certLine, "alice@example.com", strings.Repeat("<", maxLogLine-len(certLine)-10), 1)
	long := strings.Replace(certLine, "alice@example.com", strings.Repeat("<", 600), 1)
	logins := 0
	err := newLogReader().read(strings.NewReader(strings.Repeat(forged+"\n"+long+"\n", api.MaxHostLogins)+certLine), func(b []api.HostLogin) error {
		logins += len(b)
		r, err := json.Marshal(request{Op: opAudit, Logins: b})
		if len(r) > maxRequest {
			t.Errorf("a request of %d bytes", len(r))
		}
		return err
	})
	if err != nil || logins != 2*api.MaxHostLogins+1 {
		t.Errorf("%d logins, %v", logins, err)
	}
}

// FuzzLogLine: of whatever stands in a log, what is read is on the line, and one line is one login.
func FuzzLogLine(f *testing.F) {
	for _, seed := range []string{certLine, "Nov 22 18:15:42 db-1 sshd[4711]: " + certLine, "Accepted password for a from b port 1 ssh2", "sshd: Accepted  for  from  port  ssh2: ", "\x00\xff"} {
		f.Add(seed)
	}
	p := newLogReader()
	f.Fuzz(func(t *testing.T, line string) {
		l, ok := p.parse(line)
		if !ok {
			return
		}
		for _, part := range []string{l.Login, l.Source, l.Method, l.Fingerprint, l.KeyID} {
			if !strings.Contains(line, part) {
				t.Errorf("%q is not in %q", part, line)
			}
		}
		if l.Login == "" || l.Source == "" || l.Method == "" || l.Line != digestOf(strings.TrimRight(line, "\r\n")) || !strings.Contains(line, "Accepted ") {
			t.Errorf("%q is read as %+v", line, l)
		}
	})
}
