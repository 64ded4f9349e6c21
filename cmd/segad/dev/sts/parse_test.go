package sts

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/keychain/secret"
)

func FuzzParseForm(f *testing.F) {
	f.Add(whoami)
	f.Add(assumeForm(append(tagForm(2), "TransitiveTagKeys.member.1", "k1", "PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/x")...))
	f.Add(assumeForm("Tags.member.2.Key", "k"))
	f.Add("Action=AssumeRole&Action=AssumeRole&%zz=;")
	f.Fuzz(func(t *testing.T, encoded string) {
		got, bad := parseForm(encoded)
		if bad != nil {
			if bad.code == "" || bad.status/100 != 4 || bad.message == "" {
				t.Fatalf("fault %+v", bad)
			}
			return
		}
		again, bad := parseForm(got.encode())
		if bad != nil {
			t.Fatalf("%q became %q: %+v", encoded, got.encode(), bad)
		}
		if diff := cmp.Diff(got, again, cmp.AllowUnexported(form{})); diff != "" {
			t.Fatalf("round trip:\n%s", diff)
		}
		if got.action == "AssumeRole" {
			if a, bad := parseAssume(got); bad == nil && (a.duration < 900*time.Second || a.duration > 12*time.Hour || len(a.tags) > 50 || !nameRule.MatchString(a.sessionName)) {
				t.Fatalf("accepted %+v", a)
			}
		}
	})
}

func FuzzParseAuthorization(f *testing.F) {
	sig := strings.Repeat("0a", 32)
	f.Add("AWS4-HMAC-SHA256 Credential=AKIABROKER0000000000/20260102/us-east-1/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + sig)
	f.Add("AWS4-HMAC-SHA256 Signature=" + sig + ",SignedHeaders=host,Credential=AKIABROKER0000000000/20260102/us-east-1/sts/aws4_request")
	f.Add("AWS4-HMAC-SHA256 Credential=/////, SignedHeaders=;, Signature=")
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, h string) {
		a, bad := parseAuthorization(h)
		if bad != nil {
			if bad.code != "IncompleteSignature" {
				t.Fatalf("fault %+v", bad)
			}
			return
		}
		if len(a.signature) != 32 || len(a.headers) == 0 || a.keyID == "" {
			t.Fatalf("accepted %+v", a)
		}
		again, bad := parseAuthorization(a.String())
		if bad != nil {
			t.Fatalf("%q became %q: %+v", h, a, bad)
		}
		if diff := cmp.Diff(a, again, cmp.AllowUnexported(authorization{})); diff != "" {
			t.Fatalf("round trip:\n%s", diff)
		}
	})
}

// address is a listener of any address that accepts nothing.
type address struct {
	net.Listener
	addr net.Addr
}

func (a address) Addr() net.Addr { return a.addr }

func TestConfigIsChecked(t *testing.T) {
	at := func(ip string) net.Listener { return address{addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}} }
	key := Caller{brokerKey, secret.FromString("s"), brokerARN}
	tests := []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"loopback", Config{Listener: at("127.0.0.1")}, true},
		{"another loopback", Config{Listener: at("127.8.8.8")}, true},
		{"IPv6 loopback", Config{Listener: at("::1")}, true},
		{"every address", Config{Listener: at("0.0.0.0")}, false},
		{"every IPv6 address", Config{Listener: at("::")}, false},
		{"a private address", Config{Listener: at("10.0.0.1")}, false},
		{"no address", Config{Listener: address{addr: &net.UnixAddr{Name: "127.0.0.1"}}}, false},
		{"no listener", Config{}, false},
		{"caller", Config{Listener: at("::1"), Callers: []Caller{key}}, true},
		{"caller twice", Config{Listener: at("::1"), Callers: []Caller{key, key}}, false},
		{"caller without a secret", Config{Listener: at("::1"), Callers: []Caller{{AccessKeyID: brokerKey, ARN: brokerARN}}}, false},
		{"caller that is a role", Config{Listener: at("::1"), Callers: []Caller{{brokerKey, secret.FromString("s"), adminARN}}}, false},
		{"caller with a short key", Config{Listener: at("::1"), Callers: []Caller{{"AKIA", secret.FromString("s"), brokerARN}}}, false},
		{"role", Config{Listener: at("::1"), Roles: []Role{{ARN: adminARN, MaxDuration: 12 * time.Hour}}}, true},
		{"role of less than an hour", Config{Listener: at("::1"), Roles: []Role{{ARN: adminARN, MaxDuration: time.Hour - 1}}}, false},
		{"role of more than twelve", Config{Listener: at("::1"), Roles: []Role{{ARN: adminARN, MaxDuration: 12*time.Hour + 1}}}, false},
		{"role that trusts everybody", Config{Listener: at("::1"), Roles: []Role{{ARN: adminARN, Trusted: []string{"*"}}}}, false},
		{"role that is a user", Config{Listener: at("::1"), Roles: []Role{{ARN: brokerARN}}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.cfg); (err == nil) != tt.ok {
				t.Errorf("New: %v; want ok %v", err, tt.ok)
			}
		})
	}
}

func TestStateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	b := start(t, func(c *Config) { c.StateFile = path })
	if got := b.call(t, broker, assumeForm()); got.status != 200 {
		t.Fatal(got)
	}
	info, err := os.Stat(path)
	if err != nil || (runtime.GOOS != "windows" && info.Mode().Perm() != 0o600) {
		t.Errorf("state file: %v, %v; want mode 0600", info.Mode(), err)
	}
	b.clock.add(time.Hour + keepExpired + time.Second)
	if got := b.call(t, broker, assumeForm()); got.status != 200 {
		t.Fatal(got)
	}
	if sessions, err := load(path); err != nil || len(sessions) != 1 {
		t.Errorf("%d sessions kept, %v; want the new one alone", len(sessions), err)
	}

	if err := os.WriteFile(path, []byte(`[{"secret_access_key":"canary`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(path); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("a broken state file: %v", err)
	}

	gone := start(t, func(c *Config) { c.StateFile = filepath.Join(dir, "gone", "state") })
	if got := gone.call(t, broker, assumeForm()); got.Code != "InternalFailure" || got.Result.ID != "" {
		t.Errorf("a session that cannot be stored: %v", got)
	}
}

func TestWriteEndpointRules(t *testing.T) {
	dir := t.TempDir()
	if err := WriteEndpointRules(dir, "http://127.0.0.1:4566"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "sts", "2011-06-15", "endpoint-rule-set-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Rules []struct{ Endpoint struct{ URL string } }
	}
	if err := json.Unmarshal(data, &rules); err != nil || len(rules.Rules) != 1 || rules.Rules[0].Endpoint.URL != "http://127.0.0.1:4566" {
		t.Errorf("%v in %s", err, data)
	}
	for _, bad := range []string{"", "127.0.0.1:4566", "file:///etc", "http://"} {
		if err := WriteEndpointRules(dir, bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
