package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/broker/api"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// testApp is an app with a folder of its own; env are NAME=VALUE.
func testApp(t testing.TB, env ...string) (a *app, out, talk *bytes.Buffer) {
	t.Helper()
	vars := map[string]string{"SEGA_HOME": t.TempDir(), "SEGA_KEYRING_BACKEND": "file"}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		vars[name] = value
	}
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close() })
	out, talk = &bytes.Buffer{}, &bytes.Buffer{}
	return &app{stdin: stdin, out: out, err: talk, getenv: func(n string) string { return vars[n] },
		env: func() []string { return nil }, now: func() time.Time { return noon }}, out, talk
}

func TestOrigin(t *testing.T) {
	for name, c := range map[string]struct {
		arg, env, want string
		usage          bool
	}{
		"a bare name":          {arg: "sega.corp.example", want: "https://sega.corp.example"},
		"a name and port":      {arg: "sega.corp.example:8443", want: "https://sega.corp.example:8443"},
		"a URL":                {arg: "https://sega.corp.example:8443", want: "https://sega.corp.example:8443"},
		"a trailing slash":     {arg: "https://sega.corp.example/", want: "https://sega.corp.example"},
		"upper case":           {arg: "HTTPS://Sega.Corp.Example", want: "https://sega.corp.example"},
		"IPv6":                 {arg: "https://[::1]:8443", want: "https://[::1]:8443"},
		"the environment":      {env: "sega.env.example", want: "https://sega.env.example"},
		"argument before env":  {arg: "sega.arg.example", env: "sega.env.example", want: "https://sega.arg.example"},
		"a user in it":         {arg: "https://me:canary@sega.corp.example", want: "https://sega.corp.example"},
		"plain HTTP":           {arg: "http://sega.corp.example", usage: true},
		"another scheme":       {arg: "ftp://sega.corp.example", usage: true},
		"a path":               {arg: "https://sega.corp.example/v1", usage: true},
		"nothing but a scheme": {arg: "https://", usage: true},
		"a bad port":           {arg: "sega.corp.example:http", usage: true},
		"a space":              {arg: "sega corp", usage: true},
		"a control character":  {arg: "sega\x1b.example", usage: true},
		"a bad environment":    {env: "http://x", usage: true},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, _ := testApp(t, "SEGA_BROKER="+c.env)
			got, err := a.origin(c.arg)
			if got != c.want || (err != nil) != c.usage || c.usage && exitCode(err) != exitUsage {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestOriginRemembered(t *testing.T) {
	a, _, _ := testApp(t)
	if got, err := a.origin(""); got != "" || exitCode(err) != exitFailed || !strings.Contains(fmt.Sprint(explained(err)), "run: sega login") {
		t.Errorf("without a login: %q, %v", got, err)
	}
	if err := a.writeFile("broker.json", []byte(`{"configuration":{"origin":"https://last.example"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := a.origin(""); got != "https://last.example" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := a.writeFile("broker.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := a.origin(""); got != "" || !strings.Contains(explained(err), "damaged") {
		t.Errorf("damaged: %q, %v", got, err)
	}
}

func TestCheckpointFile(t *testing.T) {
	seen := map[string]string{}
	for origin, want := range map[string]string{
		"https://sega.corp.example":      "checkpoint-sega.corp.example",
		"https://sega.corp.example:8443": "checkpoint-sega.corp.example_8443",
		"https://[::1]:8443":             "checkpoint-__1_8443",
	} {
		got := checkpointFile(origin)
		if got != want || strings.ContainsAny(got, `/\:*?"<>|[]`) || seen[got] != "" {
			t.Errorf("%s: %q, want %q (also of %q)", origin, got, want, seen[got])
		}
		seen[got] = origin
	}
}

// TestWriteFile: a file of ours is replaced whole, with its mode, and leaves nothing beside it.
func TestWriteFile(t *testing.T) {
	a, _, _ := testApp(t)
	home, err := a.home()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first and longer", "second"} {
		if err := a.writeFile("ssh/id", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(home, "ssh", "id"))
		if err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	info, err := os.Stat(filepath.Join(home, "ssh", "id"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if all, err := os.ReadDir(filepath.Join(home, "ssh")); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	if err := a.writeFile(".", []byte("x"), 0o600); err == nil { // a folder cannot be replaced
		t.Error("a folder was replaced")
	}
}

func TestRoots(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{junk: "holds no certificate", filepath.Join(dir, "none"): "no such file"} {
		a, _, _ := testApp(t, "SEGA_CA_FILE="+path)
		if pool, err := a.roots(); pool != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", path, pool, err)
		}
	}
	a, _, _ := testApp(t)
	if pool, err := a.roots(); pool != nil || err != nil {
		t.Errorf("without it: %v, %v", pool, err)
	}
}

// explained is what a person reads of an error.
func explained(err error) string {
	var b bytes.Buffer
	explain(&b, err, "sega")
	return b.String()
}

func TestKnownHosts(t *testing.T) {
	got := knownHosts(api.Configuration{FrontCAs: []string{"ssh-ed25519 AAAA", " ssh-ed25519 BBBB\n"}})
	if want := "@cert-authority * ssh-ed25519 AAAA\n@cert-authority * ssh-ed25519 BBBB\n"; got != want {
		t.Errorf("got %q", got)
	}
	if got := knownHosts(api.Configuration{}); got != "" {
		t.Errorf("without a CA: %q", got)
	}
}

func TestReadFrom(t *testing.T) {
	for in, want := range map[string]string{"a b \r\nc\n": "a b", "no end": "no end", "": "", "\n": ""} {
		got, err := readFrom(strings.NewReader(in))
		if got != want || (err != nil) != (in == "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

var errPlain = errors.New("plain")

// TestPlayable: the browser asks for no reason where no identity is named, or what is named is none.
func TestPlayable(t *testing.T) {
	none, bad := filepath.Join(t.TempDir(), "none.age"), filepath.Join(t.TempDir(), "bad.age")
	if err := os.WriteFile(bad, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for env, want := range map[string]string{"SEGA_AUDIT_IDENTITY=": "set SEGA_AUDIT_IDENTITY", "SEGA_AUDIT_IDENTITY=" + none: "identity: ", "SEGA_AUDIT_IDENTITY=" + bad: "is not an age identity"} {
		a, _, _ := testApp(t, env)
		if err := a.playable(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", env, err)
		}
	}
}
