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
		"sshd -e":                     {certLine, &cert},
		"syslog":                      {"Nov 22 18:15:42 db-1 sshd[4711]: " + certLine, ptr(at(cert, "2026-11-22T18:15:42Z"))},
		"syslog of 9.8":               {"Nov 22 18:15:42 db-1 sshd-session[4711]: " + certLine, ptr(at(cert, "2026-11-22T18:15:42Z"))},
		"with a year":                 {"2026-11-22T18:15:42.123456+01:00 db-1 sshd[4711]: " + certLine, ptr(at(cert, "2026-11-22T18:15:42.123456+01:00"))},
		"journalctl":                  {"2026-11-22T18:15:42+0000 db-1 sshd[4711]: " + certLine + "\r\n", ptr(at(cert, "2026-11-22T18:15:42Z"))},
		"journalctl, precise":         {"2026-11-22T18:15:42.123456+0100 db-1 sshd[4711]: " + certLine, ptr(at(cert, "2026-11-22T18:15:42.123456+01:00"))},
		"journalctl of 256":           {"2026-11-22T18:15:42+01:00 db-1 sshd[4711]: " + certLine, ptr(at(cert, "2026-11-22T18:15:42+01:00"))},
		"RFC 5424":                    {"<38>1 2026-11-22T18:15:42.123456+01:00 db-1 sshd 4711 - - " + certLine, ptr(at(cert, "2026-11-22T18:15:42.123456+01:00"))},
		"with structured data":        {`<38>1 2026-11-22T18:15:42Z db-1 sshd-session 4711 ID47 [a@1 b="x\]y"][c d="e"] ` + "\ufeff" + certLine, ptr(at(cert, "2026-11-22T18:15:42Z"))},
		"RFC 5424 of another program": {"<38>1 2026-11-22T18:15:42Z db-1 cron 1 - - " + certLine, nil},
		"RFC 5424, refused":           {"<38>1 2026-11-22T18:15:42Z db-1 sshd 1 - - Invalid user Accepted password for root from 192.0.2.1 port 22 ssh2", nil},
		"RFC 5424 in structured data": {`<38>1 2026-11-22T18:15:42Z db-1 cron 1 - [a b="x] sshd[1]: ` + certLine + `"] m`, nil},
		"with a priority":             {"<38>Nov 22 18:15:42 db-1 sshd[4711]: " + certLine, ptr(at(cert, "2026-11-22T18:15:42Z"))},
		"a quoted ID":                 {strings.Replace(strings.Replace(certLine, "ID ssh_", `ID "ssh_`, 1), ".com (", `.com" (`, 1), &cert},
		"a plain key":                 {"Accepted publickey for root from ::1 port 22 ssh2: ED25519 " + fingerprintA, &api.HostLogin{Login: "root", Source: "::1", Method: "publickey", Fingerprint: fingerprintA}},
		"a password":                  {"Accepted password for bob from 192.0.2.1 port 22 ssh2", &api.HostLogin{Login: "bob", Source: "192.0.2.1", Method: "password"}},
		"PAM":                         {"Accepted keyboard-interactive/pam for bob from 192.0.2.1 port 22 ssh2", &api.HostLogin{Login: "bob", Source: "192.0.2.1", Method: "keyboard-interactive/pam"}},
		"before a login":              {`Accepted certificate ID "ssh_a b" (serial 1) signed by ED25519 CA SHA256:x via /etc/ca`, nil},
		"refused":                     {"sshd[1]: Failed password for root from 192.0.2.1 port 22 ssh2", nil},
		"a name that looks like a line": {
			"Nov 22 18:15:42 db-1 sshd[1]: Invalid user sshd[2]: Accepted password for root from 192.0.2.1 port 22 ssh2 from 192.0.2.9 port 1", nil},
		"another program": {"Nov 22 18:15:42 db-1 cron[1]: Accepted password for root from 192.0.2.1 port 22 ssh2", nil},
		"a key ID that looks like the rest": {strings.Replace(certLine, "alice@example.com", "x (serial 1) CA ED25519 SHA256:ccc", 1),
			&api.HostLogin{Login: "root", Source: "127.0.0.1", Method: "publickey", Fingerprint: fingerprintA, KeyID: "ssh_abcdefghijkmnpqrstuv x (serial 1) CA ED25519 SHA256:ccc", Serial: 4294967299}},
		"a serial too large": {strings.Replace(certLine, "4294967299", "99999999999999999999999", 1), ptr(func() api.HostLogin { l := cert; l.Serial = 18446744073709551615; return l }())},
		"empty":              {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newLogReader()
			p.now = func() time.Time { return time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC) }
			got, kind := p.parse(tt.line)
			if want := map[bool]lineKind{true: lineLogin, false: lineOther}[tt.want != nil]; kind != want {
				t.Fatalf("read %+v, %v", got, kind)
			}
			if tt.want == nil {
				return
			}
			got.Line, got.Connection = "", ""
			if diff := cmp.Diff(*tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestTimeWithoutAYear: the latest that is not in the future, in the zone of the host.
func TestTimeWithoutAYear(t *testing.T) {
	zone := time.FixedZone("", 2*60*60)
	now := time.Date(2026, 11, 23, 1, 2, 3, 0, zone)
	for stamp, want := range map[string]time.Time{
		"Nov 23 01:02:03 db-1 ":   now,
		"Nov 23 01:02:33 db-1 ":   now.Add(30 * time.Second), // two clocks
		"Nov 23 01:04:03 db-1 ":   time.Date(2025, 11, 23, 1, 4, 3, 0, zone),
		"Dec 31 23:59:59 db-1 ":   time.Date(2025, 12, 31, 23, 59, 59, 0, zone),
		"Jan  1 00:00:00 db-1 ":   time.Date(2026, 1, 1, 0, 0, 0, 0, zone),
		"Nov 22 18:15:42.5 db-1 ": time.Date(2026, 11, 22, 18, 15, 42, 500_000_000, zone),
		"Feb 29 12:00:00 db-1 ":   time.Date(2024, 2, 29, 12, 0, 0, 0, zone),
		"Feb 30 12:00:00 db-1 ":   {},
		"Nov 22 ":                 {},
		"":                        {},
	} {
		if got := timeOf(stamp, now); !got.Equal(want) {
			t.Errorf("%q is %s, want %s", stamp, got, want)
		}
	}
	if got := timeOf("Jan  1 00:00:20 db-1 ", time.Date(2026, 12, 31, 23, 59, 50, 0, zone)); got.Year() != 2027 {
		t.Errorf("30 seconds ahead, over the end of the year: %s", got)
	}
}

// TestUnreadLines: a login in a form that is not known is no login, and is not passed over in silence.
func TestUnreadLines(t *testing.T) {
	password := "Accepted password for bob from 192.0.2.1 port 22 ssh2"
	for name, line := range map[string]string{
		"JSON":                  `{"SYSLOG_IDENTIFIER":"sshd","MESSAGE":"` + password + `"}`,
		"another name":          "Nov 22 18:15:42 db-1 sshd-next[1]: " + password,
		"another protocol":      "Nov 22 18:15:42 db-1 sshd[1]: " + strings.Replace(password, "ssh2", "ssh3", 1),
		"RFC 5424 of version 2": "<38>2 2026-11-22T18:15:42Z db-1 sshd 4711 - - " + password,
		"another word":          "sshd[1]: Accepted bob",
	} {
		t.Run(name, func(t *testing.T) {
			unread, err := newLogReader().read(strings.NewReader(line+"\n"), func(b []api.HostLogin) error { t.Errorf("read as %+v", b); return nil })
			if err != nil || unread != 1 {
				t.Errorf("%d lines, %v", unread, err)
			}
		})
	}
}

// TestConnectionOfALogin: a login is the same in the journal and in files of syslog's, and another one by its process or port.
func TestConnectionOfALogin(t *testing.T) {
	of := func(line string) string {
		t.Helper()
		l, kind := newLogReader().parse(line)
		if kind != lineLogin {
			t.Fatalf("%q is no login", line)
		}
		return l.Connection
	}
	want := of("Nov 22 18:15:42 db-1 sshd[4711]: " + certLine)
	for _, same := range []string{"2026-11-22T18:15:42+0000 db-1 sshd[4711]: " + certLine + "\r\n", "<38>1 2026-11-22T18:15:42Z db-1 sshd 4711 - - " + certLine} {
		if of(same) != want {
			t.Errorf("%q is another login", same)
		}
	}
	for _, other := range []string{"Nov 22 18:15:42 db-1 sshd[4712]: " + certLine, "Nov 22 18:15:42 db-1 sshd[4711]: " + strings.Replace(certLine, "44972", "44973", 1)} {
		if of(other) == want {
			t.Errorf("%q is the same login", other)
		}
	}
	if bare := of(certLine); !strings.HasPrefix(want, bare+"/") { // of sshd -e, which names no process
		t.Errorf("without a process it is %q, not the beginning of %q", bare, want)
	}
}

func ptr[T any](v T) *T { return &v }

// TestLogIsReadWhole: batches hold every login once, whatever stands between.
func TestLogIsReadWhole(t *testing.T) {
	log := strings.Repeat(certLine+"\n"+strings.Repeat("x", maxLogLine+7)+"\nsshd[1]: Failed\n", api.MaxHostLogins+3) + certLine
	var sizes []int
	if _, err := newLogReader().read(strings.NewReader(log), func(b []api.HostLogin) error { sizes = append(sizes, len(b)); return nil }); err != nil {
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
	_, err := newLogReader().read(strings.NewReader(strings.Repeat(forged+"\n"+long+"\n", api.MaxHostLogins)+certLine), func(b []api.HostLogin) error {
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
	for _, seed := range []string{certLine, "Nov 22 18:15:42 db-1 sshd[4711]: " + certLine, "Accepted password for a from b port 1 ssh2", "sshd: Accepted  for  from  port  ssh2: ", "<38>1 2026-11-22T18:15:42Z db-1 sshd 4711 - [a b=\"\\]\"] " + certLine, "\x00\xff"} {
		f.Add(seed)
	}
	p := newLogReader()
	f.Fuzz(func(t *testing.T, line string) {
		l, kind := p.parse(line)
		if kind != lineLogin {
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
