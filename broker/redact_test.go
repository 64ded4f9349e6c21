package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

func redactorOf(t testing.TB, more ...Redaction) *redactor {
	t.Helper()
	r, err := newRedactor(more)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// off switches every default off, so that a test sees its own patterns alone.
func off(more ...Redaction) []Redaction {
	for _, d := range DefaultRedactions() {
		more = append(more, Redaction{Name: d.Name})
	}
	return more
}

// TestDefaultRedactions: canary is a secret, and stays in no text; the rest stays readable.
func TestDefaultRedactions(t *testing.T) {
	r := redactorOf(t)
	for in, want := range map[string]string{
		"mysql --password=canary -h db":                       "mysql --password=[redacted:password] -h db",
		"mysql --password canary -h db":                       "mysql --password [redacted:password-flag] -h db",
		"pg --db-password 'canary canary' x":                  "pg --db-password [redacted:password-flag] x",
		"pg --password-file /etc/pw":                          "pg --password-file /etc/pw",
		"PGPASSWORD=canary psql":                              "PGPASSWORD=[redacted:password] psql",
		`PGPASSWORD="canary \" canary" psql`:                  "PGPASSWORD=[redacted:password] psql",
		`PGPASSWORD="canary canary`:                           "PGPASSWORD=[redacted:password]",
		`password=can'ary'"canary" x`:                         "password=[redacted:password] x",
		`password=can\ ary x`:                                 "password=[redacted:password] x",
		"Password: canary; echo":                              "Password: [redacted:password]; echo",
		"a password=canary&b=1 token=canary|x":                "a password=[redacted:password]&b=1 token=[redacted:password]|x",
		`{"password": "canary", "n": 1}`:                      `{"password": [redacted:password], "n": 1}`,
		`curl -d 'api_key=canary' x`:                          `curl -d 'api_key=[redacted:password]' x`,
		"vault --token canary read":                           "vault --token [redacted:password-flag] read",
		"git clone https://u:canary@host/x":                   "git clone https://u:[redacted:url-password]@host/x",
		"curl http://host:8080/a@b":                           "curl http://host:8080/a@b",
		"ssh user@host:/x":                                    "ssh user@host:/x",
		"export AWS_SECRET_ACCESS_KEY=cAn/ary+x AWS_REGION=x": "export AWS_SECRET_ACCESS_KEY=[redacted:aws-secret-key] AWS_REGION=x",
		"aws configure set aws_secret_access_key canary":      "aws configure set aws_secret_access_key [redacted:aws-secret-key]",
		`{"SecretAccessKey": "canary"}`:                       `{"SecretAccessKey": "[redacted:aws-secret-key]"}`,
		"AWS_SESSION_TOKEN=canary aws":                        "AWS_SESSION_TOKEN=[redacted:password] aws",
		`curl -H "Authorization: Bearer canary.x-y" h`:        `curl -H "Authorization: Bearer [redacted:authorization]" h`,
		"curl -H 'authorization: DPoP canary' h":              "curl -H 'authorization: DPoP [redacted:authorization]' h",
		"use basic instructions":                              "use basic instructions",
		"echo -----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n-----END OPENSSH PRIVATE KEY----- > k": "echo [redacted:private-key] > k",
		"echo -----BEGIN PRIVATE KEY-----\ncanary":                                                "echo [redacted:private-key]",
		"x sega_ses_canary-canary_7 y":                                                            "x [redacted:sega-token] y",
		"AGE-SECRET-KEY-1CANARYCANARY":                                                            "[redacted:age-identity]",
		"curl eyJhbGciOiJFUzI1NiJ9.canary.canary":                                                 "curl [redacted:jwt]",
		"cat /etc/passwd; ls secrets; grep token x":                                               "cat /etc/passwd; ls secrets; grep token x",
		"größe password=cänäry größe":                                                             "größe password=[redacted:password] größe",
		"mysql -pcanary -h db":                                                                    "mysql -p[redacted:password-option] -h db",
		"mysqldump -u root -p'canary canary' db":                                                  "mysqldump -u root -p[redacted:password-option] db",
		"mysql -u root -p -P 3306 db":                                                             "mysql -u root -p -P 3306 db",
		"mysql --protocol tcp; cp -p a b":                                                         "mysql --protocol tcp; cp -p a b",
		"MYSQL_PWD=canary mysql":                                                                  "MYSQL_PWD=[redacted:password] mysql",
		"DB_PASS=canary ./run":                                                                    "DB_PASS=[redacted:password] ./run",
		"dbpass: canary":                                                                          "dbpass: [redacted:password]",
		"userPwd=canary":                                                                          "userPwd=[redacted:password]",
		"x?pwd=canary&y=1":                                                                        "x?pwd=[redacted:password]&y=1",
		"openssl rsa -passin pass:canary":                                                         "openssl rsa -passin pass:[redacted:password]",
		"keytool --key-pass canary x":                                                             "keytool --key-pass [redacted:password-flag] x",
		"compass=3 bypass=no pass the salt":                                                       "compass=3 bypass=no pass the salt",
		"curl -s -u user:canary https://h":                                                        "curl -s -u user:[redacted:user-password] https://h",
		"curl -uuser:canary https://h":                                                            "curl -uuser:[redacted:user-password] https://h",
		`curl --user "user:canary canary" h`:                                                      `curl --user "user:[redacted:user-password]" h`,
		"curl --proxy-user='user:canary canary' h":                                                "curl --proxy-user='user:[redacted:user-password]' h",
		"curl -u user https://h:8080/":                                                            "curl -u user https://h:8080/",
		"sshpass -p canary ssh h":                                                                 "sshpass -p [redacted:password-option] ssh h",
		"sshpass -pcanary ssh -p 22 h":                                                            "sshpass -p[redacted:password-option] ssh -p 22 h",
		"redis-cli -h db -a canary ping":                                                          "redis-cli -h db -a [redacted:password-option] ping",
		"docker login -u u -p canary reg":                                                         "docker login -u u -p [redacted:password-option] reg",
		"docker run -p 80:80 x":                                                                   "docker run -p 80:80 x",
		"git push x ghp_canarycanarycanary1234":                                                   "git push x [redacted:vendor-token]",
		"echo github_pat_11CANARY_canary":                                                         "echo [redacted:vendor-token]",
		"slack xoxb-1234-canary x":                                                                "slack [redacted:vendor-token] x",
		"vault login hvs.canarycanary":                                                            "vault login [redacted:vendor-token]",
		"curl -H 'X: Basic Y2FuYXJ5OmNhbmFyeQ==' h":                                               "curl -H 'X: Basic [redacted:basic]' h",
		"basic Y2FuYXJ5OmNhbmFyeQ":                                                                "basic [redacted:basic]",
		"a basic idea, basic instructions":                                                        "a basic idea, basic instructions",
		"curl -d password%3Dcanary h":                                                             "curl -d password%3D[redacted:password] h",
		"x?q=%22password%22%3a%22canary%22":                                                       "x?q=%22password%22%3a[redacted:password]",
		`php -r '$x = ["password" => "canary"];'`:                                                 `php -r '$x = ["password" => [redacted:password]];'`,
		`go: password := "canary"`:                                                                `go: password := [redacted:password]`,
		`curl -d "{\"password\":\"canary\"}" h`:                                                   `curl -d "{\"password\":[redacted:password]" h`,
		"":                                                                                        "",
	} {
		got, n := r.text(in)
		if got != want || n != strings.Count(want, "[redacted:") {
			t.Errorf("%s\n got %s (%d)\nwant %s", in, got, n, want)
		}
	}
}

// TestOverlap: every pattern sees the text as it was; what overlaps goes as one, what touches as two.
func TestOverlap(t *testing.T) {
	r := redactorOf(t, off(Redaction{"one", `aaa(bb)cc`}, Redaction{"two", `bcc`}, Redaction{"three", `ccc`}, Redaction{"four", `x(y)?z`}, Redaction{"five", `redacted`})...)
	for in, want := range map[string]string{
		"aaabbccc":        "aaa[redacted:one]", // one and two and three hang together
		"aaabbcc aaabbcc": "aaa[redacted:one] aaa[redacted:one]",
		"xz xyz":          "[redacted:four] x[redacted:four]z",
		"redacted":        "[redacted:five]",
		"bccbcc":          "[redacted:two][redacted:two]",
	} {
		if got, _ := r.text(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestRedactionConfig(t *testing.T) {
	for name, c := range map[string]struct {
		more []Redaction
		want string
	}{
		"a pattern":         {[]Redaction{{"corp", `corp_\w+`}}, ""},
		"a default off":     {[]Redaction{{"password", ""}}, ""},
		"a default changed": {[]Redaction{{"password", `geheim=(\S+)`}}, ""},
		"no name":           {[]Redaction{{"", "x"}}, "a name has"},
		"a bad name":        {[]Redaction{{"a]b", "x"}}, "a name has"},
		"twice":             {[]Redaction{{"a", "x"}, {"a", "y"}}, "twice"},
		"off, of nothing":   {[]Redaction{{"a", ""}}, "no default of that name"},
		"no pattern":        {[]Redaction{{"a", "("}}, "missing closing"},
		"not RE2":           {[]Redaction{{"a", `(?<=x)y`}}, "invalid"},
		"of nothing":        {[]Redaction{{"a", "x*"}}, "matches the empty text"},
		"too long":          {[]Redaction{{"a", strings.Repeat("x", 1001)}}, "at most 1000"},
		"too many":          {make([]Redaction, 101), "at most 100"},
	} {
		_, err := newRedactor(c.more)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, n := redactorOf(t, Redaction{"password", ""}).text("password=x"); n != 0 {
		t.Errorf("a default is not off: %s", got)
	}
	if got, _ := redactorOf(t, Redaction{"password", `geheim=(\S+)`}).text("password=x geheim=y"); got != "password=x geheim=[redacted:password]" {
		t.Errorf("got %s", got)
	}
	w := newWorld(t)
	w.config.Redactions = []Redaction{{"a", "("}}
	if _, err := New(t.Context(), w.config); err == nil {
		t.Error("a broker starts with a pattern that is none")
	}
}

func b64text(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestRedactDetails(t *testing.T) {
	long := strings.Repeat("x", maxRedacted) + "password=canary"
	for name, c := range map[string]struct{ kind, in, want string }{
		"a command":           {audit.KindSessionCommand, `{"channel":3,"type":"exec","command":"x password=canary"}`, `{"channel":3,"command":"x password=[redacted:password]","redacted":1,"type":"exec"}`},
		"two":                 {audit.KindSessionCommand, `{"command":"password=canary token=canary"}`, `{"command":"password=[redacted:password] token=[redacted:password]","redacted":2}`},
		"nothing":             {audit.KindSessionCommand, `{"type":"exec", "command":"ls","n":12345678901234567890}`, `{"command":"ls","n":12345678901234567890,"type":"exec"}`},
		"paths":               {audit.KindSFTPRename, `{"path":"/x/token=canary","to":"/y/sega_ses_canary"}`, `{"path":"/x/token=[redacted:password]","redacted":2,"to":"/y/[redacted:sega-token]"}`},
		"bytes":               {audit.KindSessionCommand, `{"command":"ls \ufffd password=canary","raw":"` + b64text("ls \xff password=canary") + `"}`, `{"command":"ls � password=[redacted:password]","raw":"` + b64text("ls \xff password=[redacted:password]") + `","redacted":1}`},
		"bytes in the secret": {audit.KindSessionCommand, `{"command":"password=can\ufffdary","raw":"` + b64text("password=can\xff\xfeary") + `"}`, `{"command":"password=[redacted:password]","raw":"` + b64text("password=[redacted:password]") + `","redacted":1}`},
		"bytes without any":   {audit.KindSessionCommand, `{"command":"l\ufffd","raw":"` + b64text("l\xff") + `"}`, `{"command":"l�","raw":"` + b64text("l\xff") + `"}`},
		"bytes of another":    {audit.KindSessionCommand, `{"command":"ls","raw":"` + b64text("password=canary") + `"}`, `{"command":"ls","redacted":1}`},
		"bytes that hide it":  {audit.KindSessionCommand, `{"command":"password=canary","raw":"` + b64text("pass\xffword=canary") + `"}`, `{"command":"password=[redacted:password]","redacted":1}`},
		"bytes that are none": {audit.KindSessionCommand, `{"command":"ls","raw":"password=canary"}`, `{"command":"ls"}`},
		"a name twice":        {audit.KindSessionCommand, `{"command":"password=canary","command":"ls"}`, `{"command":"ls"}`},
		"another spelling":    {audit.KindSessionCommand, `{"Comm\u0061nd":"password=canary"}`, `{"Command":"password=[redacted:password]","redacted":1}`},
		"deep":                {audit.KindSFTPRead, `{"a":[{"b":"password=canary"}],"token=canary":1}`, `{"a":[{"b":"password=[redacted:password]"}],"redacted":2,"token=[redacted:password]":1}`},
		"a name that says it": {audit.KindSessionCommand, `{"password":"canary","n":1}`, `{"n":1,"password":"[redacted:password]","redacted":1}`},
		"a name deep":         {audit.KindSFTPRead, `{"a":[{"apiKey":"canary"},{"db_pass":12345}]}`, `{"a":[{"apiKey":"[redacted:password]"},{"db_pass":"[redacted:password]"}],"redacted":2}`},
		"a name of more":      {audit.KindSessionCommand, `{"token":{"id":1,"value":"canary"},"secret":["canary"]}`, `{"redacted":2,"secret":"[redacted:password]","token":"[redacted:password]"}`},
		"a name without":      {audit.KindSessionCommand, `{"password":"","token":null,"secret":true}`, `{"password":"","secret":true,"token":null}`},
		"names that meet":     {audit.KindSessionCommand, `{"token=canary1":1,"token=canary2":2,"token=canary3":3}`, `{"redacted":3,"token=[redacted:password]":1,"token=[redacted:password] 2":2,"token=[redacted:password] 3":3}`},
		"beyond the bound":    {audit.KindSessionCommand, `{"command":"` + long + `"}`, `{"command":"` + long[:maxRedacted] + `","cut":true}`},
		"another kind":        {audit.KindSessionStart, `{ "client":"password=canary"}`, `{ "client":"password=canary"}`},
		"none":                {audit.KindSessionCommand, ``, ``},
	} {
		got, err := redactorOf(t).details(c.kind, json.RawMessage(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n got %.300s\nwant %.300s", name, err, got, c.want)
		}
	}
	for _, in := range []string{`[]`, `"password=canary"`, `null`, `{`, `{}{}`, "{\xff"} {
		if got, err := redactorOf(t).details(audit.KindSessionCommand, json.RawMessage(in)); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
}

// FuzzRedact: a secret with its name before it never comes through, whatever stands around it; good
// UTF-8 stays good; the time is linear, or this would not end.
func FuzzRedact(f *testing.F) {
	for _, seed := range []string{"", "mysql --password ", "größe\xff", `"`, "-----BEGIN PRIVATE KEY-----", "[redacted:", "password=", strings.Repeat("a=", 1000)} {
		f.Add(seed, seed)
	}
	r, err := newRedactor(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		got, n := r.text(before + " password=canary7391 " + after)
		if strings.Contains(got, "canary7391") && !strings.Contains(before+after, "canary7391") || n == 0 {
			t.Errorf("%q, %q: %q", before, after, got)
		}
		if utf8.ValidString(before+after) != utf8.ValidString(got) && !utf8.ValidString(got) {
			t.Errorf("%q, %q: not UTF-8: %q", before, after, got)
		}
	})
}

// TestCommandIsRedacted: what a bastion asks about reaches the log, its tree and its searches without secrets.
func TestCommandIsRedacted(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Redactions = []Redaction{{"corp", `corp_(\w+)`}} })
	alice := w.login()
	bastion := w.login(func(s *state.Session) {
		s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, "mch_1", "bastion-1"
	})
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.AddSSH(ctx, tx, state.SSHSession{ID: "ssh_abcdefghijkl", Bearer: state.Bearer{LoginID: alice.session.ID, Issuer: issuer, Subject: "alice", Epoch: 1, Rev: 1}, Email: "alice@example.com",
			Host: "web-1", Login: "deploy", Node: "bastion-1", Started: w.clock.now(), NotAfter: w.clock.now().Add(time.Hour)})
	})
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.SetSSHState(ctx, tx, "ssh_abcdefghijkl", state.SSHLive)
	})
	ask := api.ChannelRequest{ID: audit.NewID(), SessionID: "ssh_abcdefghijkl", Channel: 1, Type: api.ChannelExec, Command: "deploy corp_canary --password canary"}
	if rec := bastion.do("POST", api.RouteChannel, ask); rec.Code != 200 {
		t.Fatal(rec.Body)
	}
	events := w.events()
	if got, want := string(events[0].Details), `"command":"deploy corp_[redacted:corp] --password [redacted:password-flag]"`; !strings.Contains(got, want) || !strings.Contains(got, `"redacted":2`) {
		t.Error(got)
	}
	for _, e := range events {
		if line, _ := json.Marshal(e); strings.Contains(string(line)+string(e.Details), "canary") {
			t.Errorf("the log holds %s %s", line, e.Details)
		}
	}
	if strings.Contains(w.logs.String(), "canary") {
		t.Error("the broker's own log holds it")
	}
}
